"""CPython's own tests of the classes that ours stand for, run on ours.

Each suite runs in processes of its own, and most of its time is sleep: have some run side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).resolve().parent / "runner.py"
# The runner ends itself, with the stacks of its threads, well before it is ended.
RUNNER_LIMIT_S = 400.0
LIMIT_S = RUNNER_LIMIT_S + 20
NO_TESTS = 77

# How many tests there are at the least: fewer means that the runner does not find them. The
# longest come first.
EXPECTED = {
    "server-users": 80,
    "process": 50,
    "spawn": 55,
    "thread": 50,
    "servers": 210,
    "forkserver": 55,
    "fork": 55,
    "threads": 40,
    "locks": 100,
    "asyncio": 25,
    "coroutine": 25,
    "greenlet": 25,
    "queues": 20,
}


def run(kind: str) -> tuple[int, str]:
    """Run a suite in a session of its own, none of whose processes outlives it.

    Returns:
        The code that it ended with, and all that it printed.
    """
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
    return process.returncode, printed.decode(errors="replace")


@pytest.mark.borrowed
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 40)
@pytest.mark.parametrize("kind", EXPECTED)
def test_cpython_suite(kind: str) -> None:
    code, output = run(kind)
    last = output.rstrip().rpartition("\n")[2]
    if not last.startswith("{"):
        pytest.fail(f"the runner ended with {code}:\n{output[-20_000:]}", pytrace=False)
    if code == NO_TESTS:
        pytest.skip("no interpreter on this machine has CPython's tests")
    summary = json.loads(last)
    assert not summary["failed"], output[-20_000:]
    assert summary["ran"] >= EXPECTED[kind], output[-8000:]
    assert not summary["absent"], f"skips.toml names tests that do not exist: {summary['absent']}"
    assert all(summary["skipped"].values()), "a skip without a reason"
