"""A worker for whose end the zygote has no descriptor, yet, is a worker like any other.

Found by having each system call fail once: by the time the zygote had killed it, so as not to lose
sight of it, the worker had a task. The zygote said that none had been started, and the task's
future waited forever.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import manyhands as mh
from eventually import begun, eventually, let_go
from tasks import hold

# Takes descriptors from the zygote: `pidfd_open` fails, at first when the worker has a task.
MODULE = """
import errno, os, time

open_really = os.pidfd_open
end = time.monotonic() + 30

def pidfd_open(pid, flags=0):
    while not os.path.exists({begun!r}) and time.monotonic() < end:
        time.sleep(0.001)
    if not os.path.exists({enough!r}):
        raise OSError(errno.EMFILE, "all are taken")
    return open_really(pid, flags)

os.pidfd_open = pidfd_open
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], mh.ProcessPoolExecutor]]:
    """Start a pool whose zygote has no descriptors until there is a file called "enough"."""
    text = MODULE.format(begun=str(tmp_path / "task.pid"), enough=str(tmp_path / "enough"))
    (tmp_path / "takes_descriptors.py").write_text(text)
    sys.path.insert(0, str(tmp_path))
    yield lambda: mh.ProcessPoolExecutor(1, preload=["takes_descriptors"])
    sys.path.remove(str(tmp_path))


def is_known(pool: mh.ProcessPoolExecutor, pid: int) -> bool:
    return pid in [worker["pid"] for worker in pool.statistics()["workers"]]


def test_its_task_ends(start: Callable[[], mh.ProcessPoolExecutor], tmp_path: Path) -> None:
    with start() as pool:
        task = pool.submit(hold, tmp_path)
        pid = begun(tmp_path)
        let_go(tmp_path)
        assert task.result(30) == pid
        assert pool.submit(os.getpid).result(30) == pid


@pytest.mark.parametrize("enough", [False, True])
def test_its_death_is_noticed(
    start: Callable[[], mh.ProcessPoolExecutor], tmp_path: Path, enough: bool
) -> None:
    with start() as pool:
        task = pool.submit(hold, tmp_path)
        pid = begun(tmp_path)
        eventually(lambda: is_known(pool, pid), "the pool knows its worker")
        if enough:
            (tmp_path / "enough").touch()
        os.kill(pid, signal.SIGKILL)
        error = task.exception(30)
        assert isinstance(error, mh.WorkerDied)
        assert (error.pid, error.signal) == (pid, signal.SIGKILL)
        assert pool.submit(os.getpid).result(30) != pid


def test_it_can_be_stopped(start: Callable[[], mh.ProcessPoolExecutor], tmp_path: Path) -> None:
    with start() as pool:
        task = pool.submit(hold, tmp_path)
        pid = begun(tmp_path)
        eventually(lambda: is_known(pool, pid), "the pool knows its worker")
        assert task.cancel()
        assert pool.submit(abs, -1).result(30) == 1
    with start() as pool:
        task = pool.submit(hold, tmp_path, "another")
        begun(tmp_path, "another")
        pool.terminate()
        assert task.cancelled()
