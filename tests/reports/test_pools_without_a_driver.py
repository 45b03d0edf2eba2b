"""A pool whose driver cannot be started, or hears nothing any more: it fails, and comes to its end.

Found by use, with `ulimit -u` and in programs that close all descriptors as daemons do when they
start: futures waited forever, and so did `shutdown` and the end of the program.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from refused import on_x86_64
from rules import SUPPORT

CLOSED = """
import os, sys
from concurrent.futures.process import BrokenProcessPool
import manyhands as mh

pool = mh.ProcessPoolExecutor(1)
assert pool.submit(abs, -1).result() == 1
before = pool.submit(abs, -2)
assert before.result() == 2
os.closerange(3, 100)
try:
    {act}
except BrokenProcessPool as error:
    print(error)
{leave}
print("ended", flush=True)
"""
ACTS = {
    "a result": "pool.submit(abs, -3).result()",
    "a result, in time": "pool.submit(abs, -3).result(30)",
    "a map": "list(pool.map(abs, range(9)))",
    "wait": "print(mh.wait([pool.submit(abs, -3)]).done.pop().exception())",
}


def ended(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("leave", ["pool.shutdown()", ""])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_all_descriptors_are_closed(act: str, leave: str) -> None:
    said = ended(CLOSED.format(act=act, leave=leave))
    assert "descriptors of the pool have been closed" in said
    assert said.endswith("ended\n")


def test_all_descriptors_are_closed_at_rest() -> None:
    assert ended(CLOSED.format(act="pass", leave="")) == "ended\n"


@on_x86_64
def test_no_thread_for_the_driver() -> None:
    program = f"""
import errno, sys
from concurrent.futures.process import BrokenProcessPool
import manyhands as mh
from manyhands._pool.running import Running
sys.path.append({str(SUPPORT)!r})
from refused import refuse

start = Running.start

def start_and_refuse(running, prepare):
    start(running, False)  # the collector's thread is the last that there is
    refuse("clone3", error=errno.EAGAIN)
    running.engine.prepare()  # cannot, and does not tell before there is a task

Running.start = start_and_refuse
pool = mh.ProcessPoolExecutor(1)
try:
    pool.submit(abs, -1).result(30)
except BrokenProcessPool as error:
    print(error)
pool.shutdown()
print("ended", flush=True)
"""
    said = ended(program)
    assert said.startswith("cannot start the pool's driver thread")
    assert said.endswith("ended\n")
