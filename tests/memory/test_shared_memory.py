"""Big values travel through shared memory: without copies where possible, and without leaks."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manyhands as mh
import tasks
from eventually import begun, eventually, let_go
from manyhands._memory.share import set_shared_memory_limit, shared_memory
from rules import SUPPORT

Array = np.ndarray[Any, Any]
MIB = 1 << 20


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(max_workers=2, preload=["numpy"]) as executor:
        executor.submit(tasks.pid).result()
        yield executor


def check_given_back(before: int) -> None:
    def is_back() -> bool:
        gc.collect()
        return shared_memory()[0] <= before

    eventually(is_back, f"{shared_memory()[0]} bytes in use become {before}")


ARRAYS: dict[str, Array] = {
    "numbers": np.arange(100_000),
    "no numbers": np.empty((0, 3)),
    "zero dimensions": np.array(5.0),
    "three dimensions": np.arange(60_000.0).reshape(3, 100, 200),
    "Fortran's order": np.asfortranarray(np.arange(60_000.0).reshape(300, 200)),
    "a slice with steps": np.arange(100_000)[::7],
    "reversed": np.arange(50_000)[::-1],
    "a transposed view": np.arange(60_000).reshape(300, 200).T,
    "booleans": np.arange(100_000) % 3 == 0,
    "complex": np.arange(50_000) * 1j,
    "times": np.arange(20_000).astype("datetime64[s]"),
    "records": np.zeros(10_000, dtype=[("a", "i4"), ("b", "f8")]),
    "texts": np.array(["ab", "cdefg"] * 5_000),
    "objects": np.array([1, "two", None, 3.0], dtype=object),
    "big-endian": np.arange(50_000, dtype=">i4"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_go_both_ways(pool: mh.ProcessPoolExecutor, kind: str) -> None:
    array = ARRAYS[kind]
    back = pool.submit(tasks.identity, array).result()
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.flags.f_contiguous == np.array(array, order="K").flags.f_contiguous
    assert np.array_equal(back, array)
    assert back is not array


def describe(array: Array) -> tuple[bool, bool, str]:
    """Whether it owns its memory and is writable, and what file the memory is mapped from."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(text, 16) for text in line.split()[0].split("-"))
        if start <= address < end:
            return array.flags.owndata, array.flags.writeable, line.split(maxsplit=5)[-1]
    raise AssertionError("an array outside of the address space")


def test_a_task_sees_shared_memory_itself(pool: mh.ProcessPoolExecutor) -> None:
    owns, writable, file = pool.submit(describe, np.arange(1_000_000)).result()
    assert not owns
    assert writable, "a task may change what was sent to it alone"
    assert "memfd:manyhands" in file


def test_a_result_is_shared_memory_itself(pool: mh.ProcessPoolExecutor) -> None:
    result = pool.submit(np.arange, 1_000_000).result()
    owns, writable, file = describe(result)
    assert not owns
    assert writable
    assert "memfd:manyhands" in file
    result += 1
    assert result[-1] == 1_000_000


def test_what_is_read_only_stays_so(pool: mh.ProcessPoolExecutor) -> None:
    array = np.arange(100_000)
    array.flags.writeable = False
    assert pool.submit(describe, array).result()[1] is False
    assert not pool.submit(tasks.identity, array).result().flags.writeable


def change(array: Array) -> int:
    array += 1
    return int(array[0])


def test_a_task_cannot_change_the_callers_array(pool: mh.ProcessPoolExecutor) -> None:
    array = np.zeros(100_000)
    assert [pool.submit(change, array).result() for _ in range(3)] == [1, 1, 1]
    assert not array.any()


def change_and_die(folder: Path, array: Array) -> int:
    value = change(array)
    if tasks.count_up(folder, "call") < 3:
        tasks.die("SIGKILL")
    return value


def test_a_task_that_is_tried_again_gets_fresh_arguments(
    pool: mh.ProcessPoolExecutor, tmp_path: Path
) -> None:
    view = pool.options(retries=5)
    assert view.submit(change_and_die, tmp_path, np.zeros(100_000)).result() == 1


def test_other_buffers(pool: mh.ProcessPoolExecutor) -> None:
    data = bytearray(os.urandom(3 * MIB))
    assert pool.submit(tasks.identity, data).result() == data
    both: dict[str, Any] = {"one": np.arange(300_000), "two": [np.ones(5), data]}
    back = pool.submit(tasks.identity, both).result()
    assert np.array_equal(back["one"], both["one"])
    assert back["two"][1] == data


def test_results_live_on_without_the_pool() -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        result = executor.submit(np.arange, 500_000).result()
        view = result[250_000:]
    del result, executor
    gc.collect()
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        others = [executor.submit(np.zeros, 500_000).result() for _ in range(10)]
    assert view.sum() == sum(range(250_000, 500_000))
    assert not any(other.any() for other in others)


def keep(array: Array) -> None:
    tasks.state["array"] = array


def test_a_task_may_keep_its_arguments() -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(keep, np.arange(500_000)).result()
        for number in range(10):
            executor.submit(tasks.identity, np.full(500_000, number)).result()
        kept = executor.submit(tasks.get_state, "array").result()
    assert np.array_equal(kept, np.arange(500_000))


def test_one_big_result(pool: mh.ProcessPoolExecutor) -> None:
    result = pool.submit(np.ones, 40 * MIB // 8).result()
    assert result.sum() == 40 * MIB // 8


# Nothing leaks


def everyday(executor: mh.ProcessPoolExecutor) -> None:
    array = np.arange(200_000)
    for _ in range(5):
        executor.submit(tasks.identity, array).result()
    futures = [executor.submit(tasks.identity, array[:2_000]) for _ in range(200)]
    assert all(future.result()[-1] == 1_999 for future in futures)
    with pytest.raises(KeyError):
        executor.submit(tasks.fail, KeyError(os.urandom(50_000))).result()
    with pytest.raises(mh.WorkerDied):
        executor.submit(keep_and_die, array).result()
    shared = mh.share(array)
    assert executor.submit(np.sum, shared).result() == array.sum()
    executor.submit(keep_and_die, shared).exception()
    executor.submit(tasks.identity, array).cancel()


def keep_and_die(array: Array) -> None:
    keep(array)
    tasks.die("SIGKILL")


def test_memory_is_given_back() -> None:
    def once() -> None:
        with mh.ProcessPoolExecutor(max_workers=2) as executor:
            everyday(executor)

    once()  # has memory taken that the process keeps for blocks of these sizes
    gc.collect()
    before = shared_memory()[0]
    for _ in range(6):
        once()
    # How much is kept for small blocks depends on which worker did what; a leak adds up.
    check_given_back(before + 4 * MIB)


def test_dropped_results_are_given_back(pool: mh.ProcessPoolExecutor) -> None:
    pool.submit(np.ones, MIB).result()
    gc.collect()
    before = shared_memory()[0]
    for _ in range(20):
        pool.submit(np.ones, MIB).result()
    check_given_back(before)
    kept = [pool.submit(np.ones, MIB).result() for _ in range(5)]
    # All of that; what was used before may have been given back by now.
    assert shared_memory()[0] >= 5 * 8 * MIB
    del kept
    check_given_back(before)


def test_results_that_nobody_takes_are_given_back(pool: mh.ProcessPoolExecutor) -> None:
    gc.collect()
    before = shared_memory()[0]
    futures = [pool.submit(np.ones, MIB) for _ in range(10)]
    eventually(lambda: all(future.done() for future in futures), "all are done")
    futures.clear()
    check_given_back(before)


# mh.share


def test_a_shared_array_is_one_memory(pool: mh.ProcessPoolExecutor) -> None:
    shared = mh.share(np.arange(1_000_000), writable=True)
    assert isinstance(shared, np.ndarray)
    assert pool.submit(change, shared).result() == 1
    assert shared[0] == 1
    assert shared[-1] == 1_000_000
    shared[5] = 77
    assert pool.submit(lambda array: int(array[5]), shared).result() == 77


def test_a_shared_array_is_read_only_by_default(pool: mh.ProcessPoolExecutor) -> None:
    shared = mh.share(np.arange(1_000))
    with pytest.raises(ValueError, match="read-only"):
        shared[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        pool.submit(change, shared).result()
    owns, writable, file = pool.submit(describe, shared).result()
    assert (owns, writable) == (False, False)
    assert "memfd:manyhands" in file


def test_submitting_a_shared_array_copies_nothing(pool: mh.ProcessPoolExecutor) -> None:
    shared = mh.share(np.zeros(8 * MIB))
    before = shared_memory()[0]
    most = 0
    for _ in range(50):
        future = pool.submit(len, shared)
        most = max(most, shared_memory()[0])
        assert future.result() == 8 * MIB
    assert most < before + 64 * MIB


@pytest.mark.parametrize(
    "index",
    [
        np.s_[:],
        np.s_[10:50],
        np.s_[::3],
        np.s_[::-1],
        np.s_[5, 7:90:2],
        np.s_[..., -1],
        np.s_[200:],
        np.s_[40:40],
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_of_a_shared_array(pool: mh.ProcessPoolExecutor, index: Any, order: Any) -> None:
    array = np.array(np.arange(20_000).reshape(100, 200), order=order)
    shared = mh.share(array)
    assert np.array_equal(shared, array)
    part = shared[index]
    assert np.array_equal(pool.submit(np.array, part).result(), array[index])
    assert pool.submit(describe, part).result()[2].startswith("/memfd:manyhands") or not part.size
    assert np.array_equal(pool.submit(tasks.identity, part).result(), array[index])


def test_what_is_computed_from_a_shared_array_is_ordinary(pool: mh.ProcessPoolExecutor) -> None:
    shared = mh.share(np.arange(1_000))
    doubled = shared * 2
    assert doubled.flags.writeable
    assert np.array_equal(pool.submit(tasks.identity, doubled).result(), np.arange(0, 2_000, 2))
    assert pool.submit(np.sum, shared[shared > 500]).result() == sum(range(501, 1_000))


def test_a_shared_array_lives_as_long_as_it_is_needed(
    pool: mh.ProcessPoolExecutor, tmp_path: Path
) -> None:
    size = 16 * MIB

    def first(folder: Path, array: Array) -> int:
        tasks.hold(folder)
        return int(array[0])

    blockers = [pool.submit(tasks.hold, tmp_path, f"blocker-{index}") for index in range(2)]
    future = pool.submit(first, tmp_path, mh.share(np.full(size // 8, 7)))
    gc.collect()
    # What was used before may be given back at any moment.
    in_use = shared_memory()[0]
    let_go(tmp_path)
    assert in_use >= size
    assert future.result() == 7
    assert all(blocker.result() for blocker in blockers)
    del future, blockers
    check_given_back(in_use - size + 4 * MIB)  # some is kept for blocks of sizes that are new here


def test_a_shared_array_comes_back_as_itself(pool: mh.ProcessPoolExecutor) -> None:
    shared = mh.share(np.arange(1_000), writable=True)
    back = pool.submit(lambda array: array[100:200], shared).result()
    shared[100] = -5
    assert back[0] == -5


def test_what_cannot_be_shared() -> None:
    unfit: list[Any] = [7, "text", [1, 2, 3], {"a": []}]
    for nonsense in unfit:
        with pytest.raises(TypeError, match=f"not {type(nonsense).__name__}"):
            mh.share(nonsense)
    with pytest.raises(TypeError, match="Python objects"):
        mh.share(np.array([None, 1], dtype=object))


def test_a_shared_array_in_a_forked_child_and_a_nested_pool(pool: mh.ProcessPoolExecutor) -> None:
    shared = mh.share(np.arange(1_000))

    def deeper(array: Array) -> int:
        with mh.ProcessPoolExecutor(max_workers=1) as inner:
            return int(inner.submit(np.sum, np.array(array)).result())

    assert pool.submit(deeper, shared).result() == sum(range(1_000))


# The limit


def run(program: str, limit: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that may use so much shared memory."""
    beginning = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
import numpy as np, gc, os, threading
from pathlib import Path
import manyhands as mh
import tasks
from eventually import eventually, let_go, begun
from manyhands._memory.share import shared_memory
here = Path({str(folder)!r})
MIB = 1 << 20
"""
    return subprocess.run(
        [sys.executable, "-c", beginning + program],
        env={**os.environ, "MANYHANDS_SHARED_MEMORY": str(limit)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_submits_wait_for_room(tmp_path: Path) -> None:
    done = run(
        """
assert shared_memory()[1] <= 64 * MIB
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(len, np.ones(MIB)) for _ in range(40)]  # five times what there is
    assert [future.result() for future in futures] == [MIB] * 40
    assert shared_memory()[0] <= 64 * MIB
""",
        64 * MIB,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_never_fits_is_refused_with_sizes(tmp_path: Path) -> None:
    done = run(
        """
big = np.ones(16 * MIB)
with mh.ProcessPoolExecutor(1) as pool:
    assert pool.submit(tasks.square, 2).result() == 4
    for attempt in (lambda: pool.submit(len, big), lambda: mh.share(big)):
        try:
            attempt()
        except MemoryError as error:
            assert str(128 * MIB)[:6] in str(error), error  # what was wanted, give or take a header
            print(error)
    try:
        pool.submit(np.ones, 16 * MIB).result()
    except MemoryError as error:
        print(error)
    # Nobody is harmed.
    assert pool.submit(len, np.ones(1000)).result() == 1000
    assert pool.statistics()["workers"][0]["restarts"] == 0
""",
        64 * MIB,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


def test_results_that_find_no_room(tmp_path: Path) -> None:
    done = run(
        """
with mh.ProcessPoolExecutor(2) as pool:
    kept, errors = [], []
    for _ in range(20):
        try:
            kept.append(pool.submit(np.ones, MIB).result())
        except MemoryError as error:
            errors.append(error)
    assert kept and errors and all(array.all() for array in kept)
    print(len(kept), errors[0])
    kept.clear()
    gc.collect()
    assert pool.submit(np.ones, MIB).result().all(), "there is room again"
""",
        64 * MIB,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_waiting_for_room_can_be_interrupted(tmp_path: Path) -> None:
    done = run(
        """
import signal
kept = mh.share(np.ones(5 * MIB))
with mh.ProcessPoolExecutor(1) as pool:
    future = pool.submit(tasks.hold, here)
    begun(here)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        pool.submit(len, np.ones(5 * MIB))
    except KeyboardInterrupt:
        print("interrupted")
    let_go(here)
""",
        64 * MIB,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


@pytest.mark.parametrize("limit", ["little", "-5", "1000", ""])
def test_a_limit_that_makes_no_sense(limit: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import manyhands as mh; mh.ProcessPoolExecutor(1).submit(int)"],
        env={**os.environ, "MANYHANDS_SHARED_MEMORY": limit},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert "MANYHANDS_SHARED_MEMORY must be a number of bytes" in done.stderr


def test_the_limit_is_set_before_anything_else() -> None:
    shared_memory()
    with pytest.raises(RuntimeError, match="already in use"):
        set_shared_memory_limit(64 * MIB)
    with pytest.raises(ValueError, match="too small"):
        set_shared_memory_limit(1000)


def test_many_threads_share_and_submit(pool: mh.ProcessPoolExecutor) -> None:
    wrong: list[object] = []

    def use(value: int) -> None:
        for size in range(1, 40):
            array = np.full(size * 3_000, value)
            if pool.submit(np.sum, array).result() != array.sum():
                wrong.append((value, size))
            if pool.submit(np.sum, mh.share(array)[::2]).result() != array[::2].sum():
                wrong.append((value, size, "shared"))

    threads = [threading.Thread(target=use, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_arguments_of_a_running_task_are_left_alone(
    tmp_path: Path, pool: mh.ProcessPoolExecutor
) -> None:
    """Arguments of a running task stay as they are while others come and go."""

    def check_later(folder: Path, array: Array) -> bool:
        tasks.hold(folder)
        return bool((array == 3).all())

    future = pool.submit(check_later, tmp_path, np.full(300_000, 3))
    begun(tmp_path)
    for number in range(30):
        pool.submit(tasks.identity, np.full(300_000, number)).result()
    let_go(tmp_path)
    assert future.result()
