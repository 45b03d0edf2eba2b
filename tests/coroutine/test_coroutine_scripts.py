"""Programs that fork, end, or start threads of their own around event loops of a pool."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest


def run(script: str) -> str:
    """Run a program to its end; return what it has printed."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


HEAD = """
import asyncio, os, sys, threading, time
import manyhands as mh

async def double(number):
    await asyncio.sleep(0.01)
    return 2 * number
"""


def test_the_end_of_a_program_waits_for_what_is_queued() -> None:
    assert run(
        HEAD
        + """
async def say(number):
    print(await double(number))

pool = mh.CoroutinePoolExecutor(max_tasks=1)
for number in range(3):
    pool.submit(say, number)
"""
    ).split() == ["0", "2", "4"]


def test_nothing_can_be_submitted_at_the_end() -> None:
    assert (
        run(
            HEAD
            + """
pool = mh.CoroutinePoolExecutor()

async def late():
    await asyncio.sleep(0.2)
    try:
        pool.submit(double, 1)
    except RuntimeError as error:
        print(error)

pool.submit(late)
"""
        ).strip()
        == "cannot schedule new futures after shutdown"
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_keeps_the_executor_on_both_sides() -> None:
    assert run(
        """
import warnings
warnings.simplefilter("ignore")
"""
        + HEAD
        + """
pool = mh.CoroutinePoolExecutor(loops=2)
running = pool.submit(asyncio.sleep, 0.3, "parent's")
while not running.running():
    time.sleep(0.001)
pid = os.fork()
if not pid:
    try:
        running.result(10)
    except mh.ManyhandsError as error:
        print("child:", "forked from" in str(error))
    print("child:", pool.submit(double, 4).result(30))
    pool.shutdown()
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(running.result(30), pool.submit(double, 5).result(30))
pool.shutdown()
"""
    ).splitlines() == ["child: True", "child: 8", "parent's 10"]


def test_ctrl_c_in_a_with_block_cancels_what_runs() -> None:
    assert run(
        HEAD
        + """
import signal

async def stand():
    inside.set()
    try:
        await asyncio.sleep(3600)
    finally:
        print("cleaned up")

inside = threading.Event()
try:
    with mh.CoroutinePoolExecutor() as pool:
        pool.submit(stand)
        inside.wait()
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    ).splitlines() == ["cleaned up", "interrupted"]
