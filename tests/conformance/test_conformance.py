"""CPython's own tests of `concurrent.futures` and of asyncio's use of it, run on our classes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
RUNNER = HERE / "runner.py"
LIMIT_S = 900.0
NO_TESTS = 77

# How many tests there are at the least: fewer means that the runner does not find them.
EXPECTED = {"thread": 50, "process": 50, "asyncio": 25}


@dataclass
class Summary:
    """What the runner says in its last line."""

    source: str | None
    ran: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def run(kind: str) -> tuple[Summary, str]:
    """Run the suite in a process of its own; return its summary and all that it printed."""
    done = subprocess.run(
        [sys.executable, str(RUNNER), kind],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT_S,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    last = output.rstrip().rpartition("\n")[2]
    if not last.startswith("{"):
        pytest.fail(f"the runner ended with {done.returncode}:\n{output[-8000:]}", pytrace=False)
    if done.returncode == NO_TESTS:
        pytest.skip("no interpreter on this machine has the package test.test_concurrent_futures")
    return Summary(**json.loads(last)), output


@pytest.mark.borrowed
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("kind", ["thread", "process", "asyncio"])
def test_cpython_suite(kind: str) -> None:
    summary, output = run(kind)
    assert not summary.failed, output[-20_000:]
    assert summary.ran >= EXPECTED[kind], output[-8000:]
    assert not summary.absent, f"skips.toml names tests that do not exist: {summary.absent}"
    unexplained = [test for test, reason in summary.skipped.items() if not reason]
    assert not unexplained
