"""Arrays that came through shared memory are the receiver's own, also against its later forks.

Reports: starfish#738, and the many questions about fork's copy-on-write: a child worked in place on
what it took for its copy, and changed the parent's data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manyhands as mh

SIZES = [5, 8_192, 20_000, 1_000_000]


@pytest.fixture
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as made:
        yield made


def fill(size: int, value: float = 1.0) -> Any:
    return np.full(size, value)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a child made by fork, and return its exit code: 0 if it returned True."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_in_child(array: Any) -> tuple[int, float]:
    def work() -> bool:
        array[:] = 9
        return float(array.sum()) == 9.0 * len(array)

    code = in_child(work)
    return code, float(array.sum())


@pytest.mark.parametrize("size", SIZES)
def test_a_child_writes_to_its_own_copy(pool: mh.ProcessPoolExecutor, size: int) -> None:
    assert write_in_child(pool.submit(fill, size).result()) == (0, size)
    assert write_in_child(next(iter(pool.map(fill, [size])))) == (0, size)
    assert pool.submit(write_in_child, fill(size)).result() == (0, size)
    queue: Any = mh.Queue()
    queue.put(fill(size))
    assert write_in_child(queue.get()) == (0, size)


@pytest.mark.parametrize("size", SIZES)
def test_what_the_parent_writes_stays_with_it(pool: mh.ProcessPoolExecutor, size: int) -> None:
    array = pool.submit(fill, size).result()
    array[0] = 5  # before the fork: the child has it
    to_child, told = os.pipe()

    def work() -> bool:
        os.close(told)
        os.read(to_child, 1)  # until the parent has closed its end
        return float(array[0]) == 5 and float(array[1]) == 1

    child = os.fork()
    if child == 0:
        os._exit(0 if work() else 1)
    array[:] = 7
    os.close(told)
    os.close(to_child)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert float(array.sum()) == 7.0 * size


def test_a_child_keeps_what_its_parent_lets_go_of(pool: mh.ProcessPoolExecutor) -> None:
    array = pool.submit(fill, 1_000_000).result()
    to_child, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        os.read(to_child, 1)
        os._exit(0 if float(array.sum()) == 1_000_000 else 1)
    del array
    for value in range(5):
        assert pool.submit(fill, 1_000_000, value).result()[-1] == value
    os.close(told)
    os.close(to_child)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_child_of_a_child(pool: mh.ProcessPoolExecutor) -> None:
    array = pool.submit(fill, 100_000).result()

    def middle() -> bool:
        array[0] = 2

        def inner() -> bool:
            array[0] += 1
            return float(array[0]) == 3

        return in_child(inner) == 0 and float(array[0]) == 2

    assert in_child(middle) == 0
    assert float(array[0]) == 1


def test_memory_does_not_grow_with_forks(pool: mh.ProcessPoolExecutor) -> None:
    def memory() -> tuple[int, int]:
        mappings = Path("/proc/self/maps").read_text().count("manyhands")
        return mappings, _ground().stat().st_blocks * 512

    def step(number: int) -> None:
        array = pool.submit(fill, 1_000_000, number).result()
        assert in_child(lambda: float(array[0]) == number) == 0
        array[0] = -1
        assert float(array[-1]) == number

    for number in range(5):
        step(number)
    before = memory()
    for number in range(40):
        step(number)
    after = memory()
    assert after[0] <= before[0] + 2
    assert after[1] <= before[1] + (16 << 20)


def _ground() -> Path:
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and "manyhands:SharedHeap" in str(entry.readlink()):
            return entry
    raise AssertionError("no shared memory")


def test_what_is_shared_stays_common() -> None:
    shared = mh.share(np.zeros(100_000), writable=True)

    def work() -> bool:
        shared[0] = 4
        return True

    assert in_child(work) == 0
    assert float(shared[0]) == 4
