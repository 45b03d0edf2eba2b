"""`mh.wait` and `mh.as_completed`: the standard library's, seen from outside."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manyhands as mh
from eventually import eventually
from occupied import occupied

Futures = list[concurrent.futures.Future[int]]
STATES = ["pending", "running", "cancelled", "notified", "result", "exception"]
CONDITIONS = [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION]


def bring(future: concurrent.futures.Future[int], state: str) -> None:
    """Brings a pending future into a state."""
    if state in ("cancelled", "notified"):
        future.cancel()
    if state in ("running", "notified"):
        future.set_running_or_notify_cancel()
    if state == "result":
        future.set_result(1)
    if state == "exception":
        future.set_exception(ValueError())


def numbers(of: Futures, among: Iterable[concurrent.futures.Future[int]]) -> list[int]:
    return sorted(of.index(future) for future in among)


@given(states=st.lists(st.sampled_from(STATES), max_size=6), when=st.sampled_from(CONDITIONS))
def test_wait_finds_what_the_stdlib_finds(states: list[str], when: str) -> None:
    futures: Futures = [mh.Future() for _ in states]
    for future, state in zip(futures, states, strict=True):
        bring(future, state)
    ours = mh.wait(futures, timeout=0, return_when=when)
    theirs = concurrent.futures.wait(futures, timeout=0, return_when=when)
    assert numbers(futures, ours.done) == numbers(futures, theirs.done)
    assert numbers(futures, ours.not_done) == numbers(futures, theirs.not_done)


@given(states=st.lists(st.sampled_from(STATES), max_size=6))
def test_as_completed_finds_what_the_stdlib_finds(states: list[str]) -> None:
    futures: Futures = [mh.Future() for _ in states]
    for future, state in zip(futures, states, strict=True):
        bring(future, state)

    def seen(as_completed: Callable[..., Iterable[Any]]) -> tuple[list[int], str]:
        found: Futures = []
        try:
            for future in as_completed(futures * 2, timeout=0):
                found.append(future)
        except TimeoutError as error:
            return numbers(futures, found), str(error)
        return numbers(futures, found), ""

    assert seen(mh.as_completed) == seen(concurrent.futures.as_completed)


@settings(deadline=None, max_examples=40)
@given(
    order=st.permutations(range(6)),
    states=st.lists(st.sampled_from(STATES[3:]), min_size=6, max_size=6),
)
def test_they_come_in_the_order_in_which_they_end(order: list[int], states: list[str]) -> None:
    futures: Futures = [mh.Future() for _ in order]
    first: mh.Future[int] = mh.Future()
    first.set_result(0)
    stream = mh.as_completed([first, *futures])
    assert next(stream) is first
    for number in order:
        bring(futures[number], states[number])
    assert [futures.index(future) for future in stream] == list(order)


@pytest.mark.parametrize("when", CONDITIONS)
def test_a_wait_goes_on_until_there_is_enough(when: str) -> None:
    futures: Futures = [mh.Future() for _ in range(3)]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(mh.wait(futures, return_when=when)))
    thread.start()
    futures[1].set_result(1)
    if when != FIRST_COMPLETED:
        futures[0].set_exception(ValueError())
    if when == ALL_COMPLETED:
        futures[2].cancel()
        futures[2].set_running_or_notify_cancel()
    thread.join(timeout=20)
    [(done, not_done)] = found
    assert done | not_done == set(futures)
    enough = {FIRST_COMPLETED: {futures[1]}, FIRST_EXCEPTION: set(futures[:2])}
    assert done == enough.get(when, set(futures))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid return condition: 'SOON'"):
        mh.wait([], return_when="SOON")


def test_foreign_futures_are_welcome() -> None:
    ours, theirs = mh.Future[int](), concurrent.futures.Future[int]()
    mixed: Futures = [ours, theirs]
    ours.set_result(1)
    assert mh.wait(mixed, timeout=0).done == {ours}
    theirs.set_result(2)
    assert set(mh.as_completed(mixed)) == set(mixed)


def test_a_future_is_let_go_once_it_was_yielded() -> None:
    futures: Futures = [mh.Future() for _ in range(4)]
    for future in futures[:3]:
        future.set_result(1)
    stream = mh.as_completed(futures, timeout=0)
    for _ in range(3):
        future = next(stream)
        futures.remove(future)
        dead = weakref.ref(future)
        del future
        gc.collect()
        assert dead() is None
    with pytest.raises(TimeoutError, match=r"1 \(of 4\) futures unfinished"):
        next(stream)


def test_a_task_that_waits_can_be_ended() -> None:
    with mh.ThreadPoolExecutor(2) as executor, occupied(executor) as endless:
        future = executor.submit(lambda: mh.wait([endless]))
        eventually(future.running, "the task runs")
        eventually(future.cancel, "the task can be ended")
        assert future.cancelled()


def test_pools_complete_what_is_waited_for() -> None:
    with mh.ThreadPoolExecutor(3) as executor:
        futures = [executor.submit(pow, n, 2) for n in range(2000)]
        assert sorted(each.result() for each in mh.as_completed(futures))[-1] == 1999**2
        futures = [executor.submit(pow, n, 2) for n in range(2000)]
        assert mh.wait(futures, return_when=FIRST_EXCEPTION).done == set(futures)


@pytest.fixture
def held_up() -> Iterator[mh.ProcessPoolExecutor]:
    """Start a pool whose own thread is busy with a callback."""
    begun, gate = threading.Event(), threading.Event()

    def hold_up(_: object) -> None:
        begun.set()
        gate.wait()

    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(abs, -1).add_done_callback(hold_up)
        begun.wait()
        try:
            yield pool
        finally:
            gate.set()


def test_whoever_waits_collects_for_itself(held_up: mh.ProcessPoolExecutor) -> None:
    futures = [held_up.submit(abs, -number) for number in range(5)]
    assert [future.result() for future in mh.as_completed(futures)] == list(range(5))
    waited = mh.wait([held_up.submit(abs, -5), held_up.submit(abs, -6)])
    assert sorted(future.result() for future in waited.done) == [5, 6]
    assert mh.map(abs, range(-9, 0), workers=held_up) == list(range(9, 0, -1))
    assert sorted(held_up.imap_unordered(abs, range(-9, 0))) == list(range(1, 10))


@contextmanager
def read(path: Path, pool: mh.ProcessPoolExecutor) -> Iterator[None]:
    """Keep the pool's worker busy as long as the block runs."""
    os.mkfifo(path)
    busy = pool.submit(Path.read_bytes, path)
    with path.open("wb"):
        yield
    assert busy.result() == b""


def test_it_hears_of_what_others_cancel(held_up: mh.ProcessPoolExecutor, tmp_path: Path) -> None:
    with read(tmp_path / "gate", held_up):
        future = held_up.submit(abs, -1)
        cancels = threading.Timer(0.01, future.cancel)
        cancels.start()
        assert mh.wait([future]).done == {future}
        cancels.join()
    assert future.cancelled()


def test_it_hears_of_what_another_thread_has_collected(
    held_up: mh.ProcessPoolExecutor, tmp_path: Path
) -> None:
    with read(tmp_path / "gate", held_up):
        future = held_up.submit(abs, -1)
        other = threading.Thread(target=future.result)
        other.start()
        waits = threading.Thread(target=mh.wait, args=([future],))
        waits.start()
    waits.join()
    other.join()
    assert future.result() == 1


def test_futures_of_several_pools_are_waited_for(
    held_up: mh.ProcessPoolExecutor, tmp_path: Path
) -> None:
    pools = mh.ProcessPoolExecutor(1), mh.ThreadPoolExecutor(1)
    with pools[0] as pool, pools[1] as threads, read(tmp_path / "gate", held_up):
        slow = held_up.submit(abs, -1)
        for other in (pool, threads):
            quick = other.submit(abs, -2)
            assert mh.wait([slow, quick], return_when=FIRST_COMPLETED).done == {quick}
            assert next(mh.as_completed([slow, quick])) is quick


@pytest.mark.parametrize("wait", [mh.wait, lambda fs: list(mh.as_completed(fs))])
def test_what_is_no_future_is_refused_by_name(wait: Callable[[Any], object]) -> None:
    done: mh.Future[int] = mh.Future()
    done.set_result(1)
    with pytest.raises(TypeError, match=r"takes futures of executors, not int$"):
        wait([done, 3])

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(0))
        with pytest.raises(TypeError, match=r"not _?Task: use asyncio\.(wait|as_completed)\(\)"):
            wait([task])
        await task

    asyncio.run(main())
