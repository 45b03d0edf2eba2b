"""Daemon threads that are in the middle of a call when the interpreter ends.

Report: python/cpython#87135. CPython ended such a thread by unwinding its stack, which functions of
Rust do not let pass: the program ended with SIGABRT.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each runs over and over in four daemon threads, so that some are in the middle of it at the end.
STEPS = {
    "a queue of objects": "queue.put(Slow()); queue.get()",
    "a pipe of objects": "left, right = mh.Pipe(); left.send(Slow()); right.recv()",
    "a task with an object": "processes.submit(id, Slow()).result()",
    "a task in a thread": "threads.submit(compute).result()",
    "a new pool of threads": "mh.ThreadPoolExecutor(1).submit(compute).result()",
    "a map that judges": "mh.starmap(compute, [(1,)] * 5)",
    "a pool of its own": "mh.Pool(1, workers='thread').map(compute, [1])",
    "a callback": "threads.submit(abs, -1).then(compute).result()",
    "a condition": "with condition: condition.wait_for(lambda: compute(), 0.001)",
}
PROGRAM = """
import sys, threading, time
import manyhands as mh

processes, threads = mh.ProcessPoolExecutor(1), mh.ThreadPoolExecutor(2)
queue, condition = mh.Queue(), mh.Condition()
processes.submit(abs, -1).result()

def compute(*_):
    for _ in range(30_000):
        pass

class Slow:
    def __init__(self): compute()
    def __reduce__(self):
        compute()
        return Slow, ()

def work():
    try:
        while True:
            exec(sys.argv[1])
    except RuntimeError:  # the interpreter takes no more tasks
        pass

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
sys.exit(7)
"""


AGAIN = pytest.mark.once("four threads are in the middle each time; again, where the rest runs too")


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("attempt", [1, *(pytest.param(again, marks=AGAIN) for again in (2, 3))])
def test_daemon_threads_are_in_the_middle_at_the_end(step: str, attempt: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, step],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (7, "")
