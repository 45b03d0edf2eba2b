"""What a sandbox or a limit refuses: it works without, or says once what is refused and what to do.

Reports: containers and services with seccomp filters; `ulimit -f` in batch systems.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable

import pytest

import manyhands as mh
from refused import on_x86_64, refuse
from staying import as_root, become_nobody, result

pytestmark = on_x86_64

ERRORS = [errno.EPERM, errno.ENOSYS]


def one_of_each() -> str:
    """Use shared memory in all ways; all of it works."""
    assert mh.Lock().acquire(timeout=5)
    assert mh.Semaphore(2, name=f"refused {mh.__version__}").acquire(timeout=5)
    queue = mh.Queue()
    queue.put(b"x" * 300_000)
    assert len(queue.get(timeout=5)) == 300_000
    here, there = mh.Pipe()
    here.send("hello")
    assert there.recv() == "hello"
    return in_workers()


def in_workers() -> str:
    with mh.ProcessPoolExecutor(1) as pool:
        assert len(pool.submit(bytes, 1_000_000).result(30)) == 1_000_000
        return str(pool.submit(abs, -1).result(30))


def after(refuse_it: Callable[[], object], act: Callable[[], object]) -> str:
    def both() -> object:
        refuse_it()
        return act()

    return result(both)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", ["madvise", "futex_waitv"])
def test_what_can_be_done_without(call: str, error: int) -> None:
    assert after(lambda: refuse(call, error=error), one_of_each) == "1"


@pytest.mark.parametrize("error", ERRORS)
def test_without_memory_files_nothing_is_shared(error: int) -> None:
    for act in (mh.Lock, mh.Queue, mh.Pipe, in_workers):
        answer = after(lambda: refuse("memfd_create", error=error), act)
        assert "Error: " in answer
        assert "refuses memfd_create" in answer, answer


@as_root
@pytest.mark.parametrize("error", ERRORS)
def test_without_system_v_memory_there_are_no_names(error: int) -> None:
    def act() -> object:
        # This user has no directory of names yet.
        become_nobody()
        assert mh.Lock().acquire(timeout=5)
        return mh.Lock(name="refused")

    answer = after(lambda: refuse("shmget", error=error), act)
    assert "objects with names need System V shared memory" in answer, answer


@pytest.mark.parametrize("error", ERRORS)
def test_without_pidfds_there_are_no_workers(error: int) -> None:
    answer = after(lambda: refuse("pidfd_open", error=error), in_workers)
    assert answer.startswith("BrokenProcessPool: cannot start a worker"), answer
    assert "refuses pidfd_open" in answer
    on_threads = after(lambda: refuse("pidfd_open", error=error), lambda: mh.Lock().acquire())
    assert on_threads == "True"


def limit(length: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (length, length))


@pytest.mark.parametrize("length", [64 << 20, 1 << 30])
def test_files_of_limited_length(length: int) -> None:
    assert after(limit(length), one_of_each) == "1"


@pytest.mark.parametrize("length", [0, 1 << 20])
def test_files_that_may_hardly_have_any_length(length: int) -> None:
    for act in (mh.Lock, mh.Queue, in_workers):
        answer = after(limit(length), act)
        assert answer.startswith("MemoryError"), answer
        assert f"limited to {length} bytes (ulimit -f)" in answer
