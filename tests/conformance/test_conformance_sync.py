"""CPython's own tests of `threading`, `queue` and `multiprocessing`, run on our classes.

The suites run in processes of their own, two at a time: most of their time is sleep.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

RUNNER = Path(__file__).resolve().parent / "runner.py"
# The runner ends itself, with the stacks of its threads, well before it is ended.
RUNNER_LIMIT_S = 200.0
LIMIT_S = RUNNER_LIMIT_S + 20
AT_A_TIME = 2
NO_TESTS = 77

# How many tests there are at the least: fewer means that the runner does not find them. The
# longest come first.
EXPECTED = {
    "spawn": 55,
    "forkserver": 55,
    "fork": 55,
    "threads": 40,
    "locks": 100,
    "queues": 20,
}


@dataclass(frozen=True)
class Ended:
    """A suite that has run: what it printed, and the JSON object of its last line."""

    code: int
    output: str
    summary: dict[str, Any]


def run(kind: str) -> Ended:
    """Run a suite in a session of its own, none of whose processes outlives it."""
    process = subprocess.Popen(
        [sys.executable, str(RUNNER), kind],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "CONFORMANCE_LIMIT_S": str(RUNNER_LIMIT_S)},
        start_new_session=True,
    )
    with process:
        try:
            printed, _ = process.communicate(timeout=LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    output = printed.decode(errors="replace")
    last = output.rstrip().rpartition("\n")[2]
    summary = json.loads(last) if last.startswith("{") else {}
    return Ended(process.returncode, output, summary)


def chosen(items: Iterable[pytest.Item]) -> list[str]:
    """Return the kinds of suite that this run of pytest asks for."""
    marks = [
        item.callspec for item in items if item.path == Path(__file__) and hasattr(item, "callspec")
    ]
    return [kind for kind in EXPECTED if kind in {mark.params.get("kind") for mark in marks}]


@pytest.fixture(scope="module")
def suites(request: pytest.FixtureRequest) -> dict[str, Ended]:
    kinds = chosen(request.session.items)
    with ThreadPoolExecutor(AT_A_TIME) as executor:
        return dict(zip(kinds, executor.map(run, kinds), strict=True))


@pytest.mark.borrowed
@pytest.mark.slow
@pytest.mark.timeout(len(EXPECTED) * LIMIT_S)
@pytest.mark.parametrize("kind", EXPECTED)
def test_cpython_suite(suites: dict[str, Ended], kind: str) -> None:
    ended = suites[kind]
    if not ended.summary:
        pytest.fail(f"the runner ended with {ended.code}:\n{ended.output[-20_000:]}", pytrace=False)
    if ended.code == NO_TESTS:
        pytest.skip("no interpreter on this machine has CPython's tests")
    summary = ended.summary
    assert not summary["failed"], ended.output[-20_000:]
    assert summary["ran"] >= EXPECTED[kind], ended.output[-8000:]
    assert not summary["absent"], f"skips.toml names tests that do not exist: {summary['absent']}"
    assert all(summary["skipped"].values()), "a skip without a reason"
