"""Workers that cannot be started for want of descriptors or processes: the pool waits, and goes on.

Found by use: a worker slot stayed "starting" forever, so that `shutdown` and the end of the program
hung.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

import manyhands as mh

WITHOUT_DESCRIPTORS = """
import logging, os, resource, threading
import manyhands as mh

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
noticed = threading.Event()

class Listener(logging.Handler):
    def emit(self, record):
        assert "Too many open files" in record.getMessage(), record.getMessage()
        noticed.set()

logging.getLogger("concurrent.futures").addHandler(Listener())
logging.getLogger("concurrent.futures").propagate = False
taken = []

def take_all():
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass

def give_back():
    while taken:
        os.close(taken.pop())
"""

REPLACEMENT = """
pool = mh.ProcessPoolExecutor(1)
assert pool.submit(abs, -1).result() == 1
ready, go = mh.Event(), mh.Event()

def die():
    ready.set()
    go.wait()
    os._exit(3)

dies = pool.submit(die)
others = [pool.submit(abs, -n) for n in range(5)]
ready.wait()
take_all()
go.set()
assert noticed.wait(30), "nobody said anything"
give_back()
assert isinstance(dies.exception(30), mh.WorkerDied)
assert [each.result(30) for each in others] == list(range(5))
pool.shutdown()
print("ended", flush=True)
"""

LIVING = """
pool = mh.ProcessPoolExecutor(2)
assert pool.submit(abs, -1).result() == 1
take_all()
first = [pool.submit(abs, -n) for n in range(20)]
assert [each.result(30) for each in first] == list(range(20))
give_back()
pool.shutdown()
print("ended", flush=True)
"""

LEAVING = """
pool = mh.ProcessPoolExecutor(1)
assert pool.submit(abs, -1).result() == 1
ready, go = mh.Event(), mh.Event()

def die():
    ready.set()
    go.wait()
    os._exit(3)

dies = pool.submit(die)
left = pool.submit(abs, -1)
ready.wait()
take_all()
go.set()
assert noticed.wait(30)
pool.shutdown(wait=False, cancel_futures=True)
assert left.cancelled()
give_back()
pool.shutdown()
print("ended", flush=True)
"""

FIRST_SUBMIT = """
pool = mh.ProcessPoolExecutor(1)
take_all()
try:
    pool.submit(abs, -1).result(30)
except OSError as error:
    assert "Too many open files" in str(error), error
else:
    raise AssertionError("it started without descriptors")
give_back()
assert pool.submit(abs, -2).result(30) == 2
pool.shutdown()
print("ended", flush=True)
"""


@pytest.mark.parametrize(
    "program",
    [REPLACEMENT, LIVING, LEAVING, FIRST_SUBMIT],
    ids=["replacement", "living", "leaving", "first submit"],
)
def test_a_pool_outlives_a_shortage_of_descriptors(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS + program],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ended\n", "")


def test_an_environment_that_is_too_large_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MH_LARGE", 200_000 * "x")
    with mh.ProcessPoolExecutor(1) as pool:
        with pytest.raises(
            BrokenProcessPool, match=r"shorten or remove some variables of os\.environ"
        ):
            pool.submit(abs, -1).result()
    monkeypatch.delenv("MH_LARGE")
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result() == 1
