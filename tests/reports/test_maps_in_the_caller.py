"""A map in the caller moves to workers when its items become dear; a lazy one can be closed.

Found in use: a cache answers the first thousand items, and the others are downloads. Judged once,
`imap` went on with them one after another; and `map` reconsidered them only after as many items as
cheap ones fit into a fiftieth of a second, which may be all.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import manyhands as mh
from manyhands._map import auto
from manyhands._map.choice import Choice, Measurements
from manyhands._map.work import Work
from manyhands._pool.process import default_workers
from manyhands._task.feed import Feed
from manyhands._task.options import NO_OPTIONS
from manyhands._task.progress import open_progress

CHEAP = 2000
DEAR = 40


class Cache:
    """Answers small numbers at once, and has to wait for large ones; counts who waits at once."""

    def __init__(self, wait: float = 0.03, cheap: int = CHEAP) -> None:
        self.wait, self.cheap = wait, cheap
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.seen: list[int] = []

    def __call__(self, number: int) -> int:
        self.seen.append(number)
        if number < self.cheap:
            return -number
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.wait)
        with self.lock:
            self.now -= 1
        return -number


NUMBERS = range(CHEAP + 2 * DEAR)
INPUTS: list[Callable[[], Any]] = [lambda: NUMBERS, lambda: iter(NUMBERS), lambda: list(NUMBERS)]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("items", INPUTS, ids=["range", "iterator", "list"])
def test_items_that_begin_to_wait_move_to_threads(ordered: bool, items: Callable[[], Any]) -> None:
    cache = Cache()
    results = list(mh.imap(cache, items(), ordered=ordered))
    expected = [-number for number in NUMBERS]
    assert (results if ordered else sorted(results, reverse=True)) == expected
    assert sorted(cache.seen) == list(NUMBERS), "each item runs once"
    assert cache.most > 1
    choice = mh.last_choice()
    assert choice is not None
    assert choice.kind == "thread"
    assert choice.measurements.waiting > 0.5


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("kind", [list, iter])
def test_a_map_does_not_wait_for_the_end_of_a_large_piece(
    kind: Any, return_exceptions: bool
) -> None:
    numbers = range(20_800)
    cache = Cache(0.001, cheap=20_000)
    feed = Feed([kind(numbers)], False)
    work = Work(cache, feed, "auto", None, NO_OPTIONS, None, return_exceptions=return_exceptions)
    # All dear ones would fit into one piece, were they as cheap as the others.
    known = Choice("sequential", "", Measurements(items=1000, item_seconds=2e-7))
    results: list[int] = []
    shown = open_progress(None, "", None)
    # It may stop earlier, where the machine has other things to do.
    while not auto._run_inline(work, known, results, shown):
        if feed.taken > 20_000:
            break
    assert 20_000 < feed.taken <= 20_500
    assert results == [-number for number in numbers[: feed.taken]]
    assert cache.seen == list(numbers[: feed.taken])
    assert feed.take(1) == [feed.taken - 1]


def test_what_a_map_gives_back_is_not_lost() -> None:
    def numbers() -> Iterator[int]:
        yield from range(500)
        raise OSError("the input has gone")

    with pytest.raises(OSError, match="gone"):
        mh.map(abs, numbers())
    feed = Feed([numbers()], False)
    assert feed.take(600) == list(range(500))
    feed.give_back(range(400, 500))
    assert (feed.taken, feed.take(60)) == (400, list(range(400, 460)))
    assert feed.take(60) == list(range(460, 500))
    with pytest.raises(OSError, match="gone"):
        feed.take(1)
    sized = Feed([[1, 2, 3]], False)
    assert sized.take(3) == [1, 2, 3]
    sized.give_back([2, 3])
    assert (sized.taken, sized.remaining, sized.take(5)) == (1, 2, [2, 3])


@pytest.mark.on_each_python
def test_in_coroutines_too() -> None:
    cache = Cache()

    async def main() -> list[int]:
        return [result async for result in mh.imap(cache, NUMBERS)]

    assert asyncio.run(main()) == [-number for number in NUMBERS]
    assert cache.most > 1


def compute(number: int) -> int:
    """Compute under the GIL, for long if the number is large."""
    if number >= CHEAP:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            sum(range(1000))
    return number


@pytest.mark.skipif(default_workers() < 2, reason="one CPU computes in the caller")
def test_items_that_begin_to_compute_move_to_processes() -> None:
    mh.shared_pool().submit(int).result()
    some = NUMBERS
    assert list(mh.imap(compute, some)) == list(some)
    choice = mh.last_choice()
    assert choice is not None
    # Where others want the CPUs, threads are about as good, and the caller is not much worse.
    assert choice.kind == "process" or choice.others > 1, choice


def fail(number: int) -> int:
    """Wait for large numbers, and fail for one of them."""
    if number >= CHEAP:
        time.sleep(0.03)
    if number == CHEAP + DEAR:
        raise ValueError("no such number")
    return number


def test_failures_say_which_item_it_was_wherever_it_ran() -> None:
    results = mh.imap(fail, iter(NUMBERS))
    taken: list[Any] = []
    with pytest.raises(ValueError, match="no such number") as raised:
        taken.extend(results)
    assert taken == list(range(CHEAP + DEAR))
    place = CHEAP + DEAR
    assert raised.value.__notes__ == [f"manyhands: raised for item {place} of the map: {place}"]
    found = list(mh.imap(fail, NUMBERS, return_exceptions=True))
    assert isinstance(found[place], ValueError)
    assert found[:place] + found[place + 1 :] == [n for n in NUMBERS if n != place]


def test_an_input_that_fails_after_the_move() -> None:
    def numbers() -> Iterator[int]:
        yield from NUMBERS
        raise OSError("the input has gone")

    taken: list[Any] = []
    with pytest.raises(OSError, match="gone"):
        taken.extend(mh.imap(fail, numbers(), return_exceptions=True))
    assert len(taken) == len(NUMBERS)


def test_the_buffer_bounds_what_is_read_after_the_move() -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in NUMBERS:
            read += 1
            yield number

    for taken, _ in enumerate(mh.imap(Cache(), numbers(), buffersize=4), 1):
        assert read <= taken + 4


def surveys(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note, for each survey, how many items had been taken before."""
    found: list[int] = []
    survey = auto._survey

    def noted(work: Any, *others: Any) -> Any:
        found.append(work.feed.taken)
        return survey(work, *others)

    monkeypatch.setattr(auto, "_survey", noted)
    return found


def test_a_consumer_that_takes_its_time_makes_no_item_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surveys(monkeypatch)
    for result in mh.imap(abs, range(-300, 0)):
        if result % 10 == 0:
            time.sleep(0.01)
    assert found == [0]


def test_items_that_stay_as_they_are_stay_in_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    # One that is measured as it is known, again and again, is never surveyed a second time.
    found = surveys(monkeypatch)
    threads: set[int] = set()

    def here(number: int) -> int:
        threads.add(threading.get_ident())
        return number

    assert list(mh.imap(here, range(200_000))) == list(range(200_000))
    assert found[0] == 0
    assert threading.get_ident() in threads
    assert sys.getrecursionlimit() > len(found)


@pytest.mark.parametrize("is_queued", [True, False])
def test_items_that_wait_for_a_cpu_in_the_caller_are_not_dear(
    monkeypatch: pytest.MonkeyPatch, is_queued: bool
) -> None:
    """Other programs may have the CPU for many times what a few items take."""
    queued = 0.0

    def starved(number: int) -> int:
        nonlocal queued
        if number % 7 == 0:
            began = time.perf_counter()
            time.sleep(0.03)
            queued += time.perf_counter() - began if is_queued else 0.0
        return number

    monkeypatch.setattr(auto, "queued_seconds", lambda: queued)
    feed = Feed([range(200)], False)
    work = Work(starved, feed, "auto", None, NO_OPTIONS, None)
    known = Choice("sequential", "", Measurements(items=2, item_seconds=0.001))
    results: list[int] = []
    stayed = auto._run_inline(work, known, results, open_progress(None, "", None))
    assert stayed == is_queued
    assert results == list(range(feed.taken))
    assert not is_queued or len(results) == 200


def test_a_glance_at_an_item_that_was_held_up_is_not_believed_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each survey that finds nothing new doubles the time until the next one."""
    found = surveys(monkeypatch)
    survey = auto._survey
    is_surveyed = False

    def surveying(*arguments: Any) -> Any:
        nonlocal is_surveyed
        is_surveyed = True
        try:
            return survey(*arguments)
        finally:
            is_surveyed = False

    monkeypatch.setattr(auto, "_survey", surveying)
    held_up = iter(range(10**6))

    def sometimes(number: int) -> int:
        # Dear whenever it is timed for long, cheap whenever it is surveyed.
        if not is_surveyed and next(held_up) > 50:
            time.sleep(0.002)
        return number

    assert list(mh.imap(sometimes, range(800), buffersize=8)) == list(range(800))
    assert 3 <= len(found) <= 7


@pytest.mark.on_each_python
@pytest.mark.parametrize("in_coroutine", [False, True])
def test_a_closed_map_computes_no_more(in_coroutine: bool) -> None:
    mine = read = 0
    # What measures is another thread.
    measured_by: set[int] = set()

    def numbers() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    def here(number: int) -> int:
        nonlocal mine
        measured_by.add(threading.get_ident())
        mine += len(measured_by) > 1
        return number

    async def take() -> None:
        awaited = aiter(mh.imap(here, numbers(), buffersize=50))
        while mine < 10:
            await anext(awaited)
        await awaited.aclose()  # type: ignore[attr-defined]

    if in_coroutine:
        asyncio.run(take())
    else:
        results = mh.imap(here, numbers(), buffersize=50)
        while mine < 10:
            next(results)
        results.close()
        assert list(results) == []
    before = read
    time.sleep(0.05)
    assert read == before
