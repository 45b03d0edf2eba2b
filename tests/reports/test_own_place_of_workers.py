"""A worker knows its index, and keeps things of its own from task to task.

Reports: sybrenjansen/mpire#88, joblib/loky#261, uqfoundation/pathos#200: each worker should have a
GPU, a port or a connection of its own, and the ways around are globals and the environment.
"""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest

import manyhands as mh

Kind: TypeAlias = Literal["thread", "process", "auto"]
KINDS: list[Kind] = ["thread", "process", "auto"]
EXECUTORS: list[Any] = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]


def meet(path: str, count: int) -> int | None:
    """Wait until `count` tasks are in the folder, each on another worker; return the index."""
    (Path(path) / f"{os.getpid()}-{threading.get_ident()}").touch()
    while len(os.listdir(path)) < count:
        time.sleep(0.005)
    return mh.worker_index()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_indexes_are_those_of_the_pool(kind: Any, tmp_path: Path) -> None:
    assert mh.worker_index() is None
    with kind(3) as pool:
        futures = [pool.submit(meet, str(tmp_path), 3) for _ in range(3)]
        assert sorted(future.result() for future in futures) == [0, 1, 2]
    assert mh.worker_index() is None


def test_a_replacement_has_the_index_of_whom_it_replaces(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(2) as pool:
        futures = [pool.submit(meet, str(tmp_path), 2) for _ in range(2)]
        assert sorted(future.result() or 0 for future in futures) == [0, 1]
        for folder in ("one", "two"):
            with pytest.raises(mh.WorkerDied):
                pool.submit(os._exit, 1).result()
            (tmp_path / folder).mkdir()
            futures = [pool.submit(meet, str(tmp_path / folder), 2) for _ in range(2)]
            assert sorted(future.result() or 0 for future in futures) == [0, 1]
    with mh.ProcessPoolExecutor(1, max_tasks_per_child=1) as single:
        assert [single.submit(mh.worker_index).result() for _ in range(4)] == [0] * 4
    with mh.ProcessPoolExecutor(1, grace=0.1) as single:
        with pytest.raises(mh.TaskTimeout):
            single.options(timeout=0.2).submit(time.sleep, 60).result()
        assert single.submit(mh.worker_index).result() == 0


def test_threads_of_a_task_and_pools_inside_workers() -> None:
    def in_thread() -> list[int | None]:
        found: list[int | None] = []
        thread = threading.Thread(target=lambda: found.append(mh.worker_index()))
        thread.start()
        thread.join()
        return found

    def in_pool() -> tuple[int | None, int]:
        with mh.ThreadPoolExecutor(1) as inner:
            mh.worker_state.whose = "process"
            inner.submit(setattr, mh.worker_state, "whose", "thread").result()
            index: Any = inner.submit(mh.worker_index).result()
            return index, len(mh.worker_state.whose)

    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(in_thread).result() == [0]
        assert pool.submit(in_pool).result() == (0, len("process"))


def begin(what: str) -> None:
    """Be the initializer."""
    mh.worker_state.opened = f"{what} {mh.worker_index()}"
    mh.worker_state.tasks = 0


def task(path: str, count: int) -> tuple[int | None, str, int]:
    """Count tasks in the worker's state."""
    meet(path, count)
    mh.worker_state.tasks += 1
    return mh.worker_index(), mh.worker_state.opened, mh.worker_state.tasks


@pytest.mark.parametrize("kind", EXECUTORS)
def test_each_worker_has_a_state_of_its_own(kind: Any, tmp_path: Path) -> None:
    with kind(2, initializer=begin, initargs=("port",)) as pool:
        futures = [pool.submit(task, str(tmp_path), 2) for _ in range(2)]
        assert sorted(future.result() for future in futures) == [(0, "port 0", 1), (1, "port 1", 1)]
        assert pool.submit(task, str(tmp_path), 2).result()[2] == 2
    assert not hasattr(mh.worker_state, "opened")


@pytest.mark.parametrize("workers", KINDS)
def test_functions_work_wherever_a_map_runs_them(workers: Kind) -> None:
    def count(number: int) -> int:
        mh.worker_state.calls = getattr(mh.worker_state, "calls", 0) + 1
        calls: int = mh.worker_state.calls
        return calls

    try:
        assert max(mh.map(count, range(200), workers=workers, max_workers=2)) >= 100
    finally:
        if hasattr(mh.worker_state, "calls"):
            del mh.worker_state.calls


def test_a_state_is_a_plain_namespace() -> None:
    state = mh.worker_state
    with pytest.raises(AttributeError, match=r"set mh\.worker_state\.nothing in the"):
        _ = state.nothing
    with pytest.raises(AttributeError, match="nothing"):
        del state.nothing
    state.something = 1
    assert dir(state) == ["something"]
    assert repr(state) == "<state of no worker: something>"
    assert pickle.loads(pickle.dumps(state)) is state
    assert copy.copy(state) is state
    del state.something
    assert repr(state) == "<state of no worker: empty>"
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(repr, state).result() == "<state of worker 0: empty>"
