"""A signal handler raised where `importlib` had just locked its lock; nobody unlocks it any more.

Every other thread that imports something waits for it from then on; and whoever left the `with`
block of a pool, or the program, waited for the pool's threads, forever.

Reports: python/cpython#125886, programs that do not end after Ctrl-C.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import _imp, importlib, sys
import manyhands as mh

def task():
    import colorsys

def done(future):
    import wave

kind, way = sys.argv[1:]
pool = getattr(mh, kind)(1)
pool.submit(abs, -1).result()
# What is left of an import that was interrupted there.
_imp.acquire_lock()
pool.submit(task).add_done_callback(done)
if way == "shutdown":
    pool.shutdown()
    assert "colorsys" in sys.modules or kind == "ProcessPoolExecutor"
print("over", flush=True)
"""

# A handler that waits for a pool, in the middle of an import.
HANDLER = """
import _imp, importlib, sys
import manyhands as mh

def task():
    import colorsys

def trace(frame, event, argument):
    if frame.f_code.co_name != "_get_module_lock":
        return None
    if event == "line" and _imp.lock_held():
        sys.settrace(None)
        pool.submit(task)
        pool.shutdown()
    return trace

pool = mh.ThreadPoolExecutor(1)
pool.submit(abs, -1).result()
sys.settrace(trace)
import wave
assert sys.gettrace() is None
assert not _imp.lock_held()
print("over", flush=True)
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize("way", ["shutdown", "end of the program"])
@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_pools_end_nevertheless(kind: str, way: str) -> None:
    assert run(PROGRAM, kind, way) == "over\n"


def test_a_handler_may_wait_for_a_pool_in_the_middle_of_an_import() -> None:
    assert run(HANDLER) == "over\n"
