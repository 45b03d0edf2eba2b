"""Nothing costs anything while there is nothing to do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import manyhands as mh
import tasks
from eventually import begun, parent_of

WATCHED_S = 2.0
ALLOWED_S = 0.020
# A virtual machine counts the time in which it is stopped to whoever is running then. That comes
# now and then; what pools do while they are idle they do all the time.
TRIES = 4


def cpu_s(pid: int) -> float:
    """CPU time of a process's threads, in seconds, as its scheduler counts it: in nanoseconds."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def family_of(executor: mh.ProcessPoolExecutor) -> set[int]:
    """Return the processes of a pool: its workers and their zygote."""
    workers = {worker["pid"] for worker in executor.statistics()["workers"]}
    return workers | {parent_of(worker) for worker in workers}


def check_quiet(pids: Iterable[int]) -> None:
    """Sees to it that these processes and this one use next to no CPU time."""
    tries = []
    for _ in range(TRIES):
        before = {pid: cpu_s(pid) for pid in {*pids, os.getpid()}}
        threading.Event().wait(WATCHED_S)
        tries.append({pid: cpu_s(pid) - start for pid, start in before.items()})
        if sum(tries[-1].values()) < ALLOWED_S:
            return
    pytest.fail(f"never idle: {tries}")


@pytest.fixture
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        yield executor


def test_idle_pools_use_no_cpu(pool: mh.ProcessPoolExecutor) -> None:
    with ExitStack() as stack:
        pools = [pool, *(stack.enter_context(mh.ProcessPoolExecutor(2)) for _ in range(3))]
        threads = stack.enter_context(mh.ThreadPoolExecutor(4))
        assert len(list(threads.map(tasks.square, range(50)))) == 50
        pids: set[int] = set()
        for each in pools:
            assert len(list(each.map(tasks.square, range(50), chunksize=1))) == 50
            each.submit(np.sum, np.ones(100_000)).result()
            each.options(timeout=1_000).submit(tasks.square, 2).result()
            pids |= family_of(each)
        assert len(pids) >= 8
        check_quiet(pids)


def read(path: Path) -> bytes:
    """Return a task that waits in the kernel until somebody writes to a named pipe."""
    tasks.announce(path.parent, path.name)
    return path.read_bytes()


def test_waiting_uses_no_cpu(pool: mh.ProcessPoolExecutor, tmp_path: Path) -> None:
    """Neither a thread that waits for a result, nor deadlines, nor a full queue."""
    pipes = [tmp_path / "one", tmp_path / "two"]
    for pipe in pipes:
        os.mkfifo(pipe)
    futures = [pool.options(timeout=1_000).submit(read, pipe) for pipe in pipes]
    queued = [pool.submit(tasks.square, number) for number in range(5_000)]
    waiters = [
        *(threading.Thread(target=future.result) for future in futures),
        *(threading.Thread(target=future.result) for future in queued[::1_000]),
    ]
    for waiter in waiters:
        waiter.start()
    for pipe in pipes:
        begun(tmp_path, pipe.name)
    try:
        check_quiet(family_of(pool))
    finally:
        for pipe in pipes:
            pipe.write_bytes(b"go on")
    assert [future.result() for future in futures] == [b"go on"] * 2
    for waiter in waiters:
        waiter.join()
    assert queued[-1].result() == 4_999**2
