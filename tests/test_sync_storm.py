"""Processes that share locks, permits and queues are killed and stopped by the hundred."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("storm_program.py")
LIMIT_S = 300


def storm(kills: int, seed: int, **environment: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), str(kills), str(seed)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert ended.returncode == 0, ended.stderr
    said = re.fullmatch(r"(\d+) killed, (\d+) stopped, \d+ tokens made, (\d+) lost\n", ended.stdout)
    assert said is not None, ended.stdout
    assert int(said[1]) >= kills
    assert int(said[2]) > 0


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("waitv", ["waitv", "slices"])
def test_a_storm_over_locks_permits_and_queues(waitv: str) -> None:
    storm(500, 1, **({} if waitv == "waitv" else {"MANYHANDS_NO_WAITV": "1"}))


@pytest.mark.storm
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(10))
def test_a_long_storm(seed: int) -> None:
    storm(3_000, seed)
