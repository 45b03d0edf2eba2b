"""A signal handler that runs in the middle of an executor's first use.

Reports: python/cpython#121649. The handler found a lock taken by the very code that it interrupted;
one that raised left threads and descriptors behind.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, os, sys, threading, time
import manyhands as mh

FOLDER = os.path.dirname(mh.__file__)
mode, kind = sys.argv[1:]
make = {"process": mh.ProcessPoolExecutor, "thread": mh.ThreadPoolExecutor}[kind]

class Alarm(Exception):
    pass

def belongings():
    gc.collect()
    threads = [each for each in threading.enumerate() if each is not threading.main_thread()]
    return threads, len(os.listdir("/proc/self/fd"))

def use(make_act, at):
    # Calls `act` in the place of a signal handler, at the `at`-th line of ours.
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            seen += 1
            if seen == at:
                sys.settrace(None)
                act()
        return trace
    pool = make(1)
    act = make_act and make_act(pool)
    sys.settrace(trace)
    try:
        with pool:
            pool.submit(abs, -1)
    finally:
        sys.settrace(None)
    return seen

def raises(pool):
    def act():
        raise Alarm
    return act

def shuts_down(pool):
    return lambda: pool.shutdown(wait=True, cancel_futures=True)

def submits(pool):
    def act():
        future = pool.submit(abs, -2)
        if kind == "process":
            # Threads are started by the code that is interrupted here: to wait for one is no use.
            assert future.result(30) == 2
    return act

use(None, 0)
lines = use(None, 0)
before = belongings()
at, step = 0, max(1, lines // 60) if mode == "submits" else 1
while at < lines:
    at += step
    try:
        use({"raises": raises, "shuts down": shuts_down, "submits": submits}[mode], at)
    except Alarm:
        pass
    except RuntimeError as error:
        assert "after shutdown" in str(error), error
end = time.monotonic() + 30
while (left := belongings()) != before and time.monotonic() < end:
    time.sleep(0.01)
print(left == before or (before, left))
"""


@pytest.mark.parametrize("mode", ["raises", "shuts down", "submits"])
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_handler_may_do_as_it_likes_at_every_line(mode: str, kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM, mode, kind],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
