"""`GreenletPoolExecutor`: plain functions that wait by switching to an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

greenlet = pytest.importorskip("greenlet")

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def pool() -> Iterator[mh.GreenletPoolExecutor]:
    with mh.GreenletPoolExecutor() as executor:
        yield executor


async def later(result: Any = None) -> Any:
    await asyncio.sleep(0)
    if isinstance(result, BaseException):
        raise result
    return result


def double(number: int) -> Any:
    return 2 * mh.await_(later(number))


class Gate:
    """Tasks that stand in a loop until they are let go, or cancelled."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self.left: list[BaseException] = []
        self._opened: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def stand(self, what: Any = None) -> Any:
        event = asyncio.Event()
        self._opened.append((asyncio.get_running_loop(), event))
        self.inside.release()
        try:
            mh.await_(asyncio.wait_for(event.wait(), 60))  # if the test has failed
        except BaseException as error:
            self.left.append(error)
            raise
        return what

    def await_inside(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.inside.acquire(timeout=30)

    def open(self) -> None:
        while self._opened:
            loop, event = self._opened.pop()
            loop.call_soon_threadsafe(event.set)


def test_plain_functions_wait_in_a_loop(pool: mh.GreenletPoolExecutor) -> None:
    assert pool.submit(double, 4).result(30) == 8
    assert list(pool.map(double, range(50))) == [2 * n for n in range(50)]
    assert list(pool.imap_unordered(double, [3])) == [6]
    assert asyncio.run(pool.run(double, 5)) == 10
    assert pool.submit(functools.partial(double, number=6)).result(30) == 12
    # What returns without a wait, too.
    assert pool.submit(pow, 2, 10).result(30) == 1024


def test_async_functions_run_as_coroutines(pool: mh.GreenletPoolExecutor) -> None:
    @mh.coroutine
    def steps(result: Any) -> Any:
        return (yield later(result))

    assert pool.submit(later, 3).result(30) == 3
    assert pool.submit(steps, 4).result(30) == 4


def test_tasks_wait_side_by_side_in_one_thread(pool: mh.GreenletPoolExecutor) -> None:
    gate, threads = Gate(), set[int]()

    def stand(number: int) -> Any:
        threads.add(threading.get_ident())
        return gate.stand(number)

    futures = [pool.submit(stand, number) for number in range(100)]
    gate.await_inside(100)
    assert pool.statistics()["workers"][0]["tasks_running"] == 100
    gate.open()
    assert [future.result(30) for future in futures] == [*range(100)]
    assert len(threads) == 1


def test_ten_thousand_wait_at_once() -> None:
    gate = Gate()
    with mh.GreenletPoolExecutor(max_tasks=10_000) as pool:
        futures = [pool.submit(gate.stand, number) for number in range(10_000)]
        gate.await_inside(10_000)
        gate.open()
        assert sum(future.result(60) for future in futures) == sum(range(10_000))


def test_an_awaited_coroutine_may_call_greenlets(pool: mh.GreenletPoolExecutor) -> None:
    from manyhands._coroutine.greenlets import run

    def inner(depth: int) -> int:
        if depth == 0:
            return mh.await_(later(1))  # type: ignore[no-any-return]
        return 1 + mh.await_(run(inner, depth - 1))

    assert pool.submit(inner, 20).result(30) == 21


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
def test_a_task_that_a_greenlet_starts_eagerly_is_one_of_its_own(
    pool: mh.GreenletPoolExecutor,
) -> None:
    from manyhands._coroutine.greenlets import run

    async def waits_wrongly() -> None:
        with pytest.raises(RuntimeError, match="this is a coroutine"):
            mh.await_(later())

    def starts() -> Any:
        loop: Any = asyncio.get_running_loop()
        wrong = asyncio.Task(waits_wrongly(), loop=loop, eager_start=True)  # type: ignore[call-arg]
        right = asyncio.Task(run(double, 4), loop=loop, eager_start=True)  # type: ignore[call-arg]
        mh.await_(wrong)
        return mh.await_(right)

    assert pool.submit(starts).result(30) == 8


def test_an_exception_comes_with_the_way_that_it_took(pool: mh.GreenletPoolExecutor) -> None:
    def caller() -> None:
        mh.await_(later(KeyError("here")))

    error = pool.submit(caller).exception(30)
    assert isinstance(error, KeyError)
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[-3:] == ["caller", "await_", "later"]


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt])
def test_every_exception_is_the_futures(
    pool: mh.GreenletPoolExecutor, kind: type[BaseException]
) -> None:
    def raises() -> None:
        mh.await_(later())
        raise kind

    assert type(pool.submit(raises).exception(30)) is kind
    assert pool.submit(double, 1).result(30) == 2  # the loop goes on


def test_what_ends_greenlets_is_an_exception_too(pool: mh.GreenletPoolExecutor) -> None:
    def raises() -> None:
        raise greenlet.GreenletExit

    assert isinstance(pool.submit(raises).exception(30), greenlet.GreenletExit)


def test_an_exception_can_be_caught_where_it_is_awaited(pool: mh.GreenletPoolExecutor) -> None:
    def catches() -> str:
        try:
            mh.await_(later(KeyError("one")))
        except KeyError as error:
            mh.await_(later())
            return f"caught {error}"
        return "nothing"

    assert pool.submit(catches).result(30) == "caught 'one'"


def test_what_cannot_be_awaited_is_said_where_it_is_tried(pool: mh.GreenletPoolExecutor) -> None:
    def waits() -> str:
        nothing: Any = 5
        with pytest.raises(TypeError, match=r"int.*await"):
            mh.await_(nothing)
        return "went on"

    assert pool.submit(waits).result(30) == "went on"


def test_cancelling_raises_where_the_task_waits(pool: mh.GreenletPoolExecutor) -> None:
    gate = Gate()
    future = pool.submit(gate.stand)
    gate.await_inside()
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(30)
    eventually(lambda: gate.left, "the task hears of it")
    assert [type(error) for error in gate.left] == [asyncio.CancelledError]
    assert pool.statistics()["cancelled"] == 1


def test_a_task_may_clean_up_and_wait_meanwhile(pool: mh.GreenletPoolExecutor) -> None:
    gate, cleaned = Gate(), threading.Event()

    def cleans_up() -> None:
        try:
            gate.stand()
        finally:
            mh.await_(later())
            cleaned.set()

    future = pool.submit(cleans_up)
    gate.await_inside()
    future.cancel()
    assert cleaned.wait(30)


def test_a_task_that_takes_too_long_ends(pool: mh.GreenletPoolExecutor) -> None:
    gate = Gate()
    with pytest.raises(mh.TaskTimeout):
        pool.options(timeout=0.05).submit(gate.stand).result(30)
    assert [type(error) for error in gate.left] == [asyncio.CancelledError]


def test_a_task_is_tried_again(pool: mh.GreenletPoolExecutor) -> None:
    tries = 0

    def fails_twice() -> int:
        nonlocal tries
        tries += 1
        mh.await_(later(KeyError("again") if tries < 3 else None))
        return tries

    assert pool.options(retries=3).submit(fails_twice).result(30) == 3
    assert pool.statistics()["retried"] == 2


def test_a_task_has_its_submitters_context(pool: mh.GreenletPoolExecutor) -> None:
    async def see_and_set(text: str) -> str:
        before = variable.get()
        variable.set(text)
        return before

    def look() -> list[str]:
        seen = [variable.get()]
        variable.set("set by the task")
        # What it awaits is part of it, as in a coroutine.
        seen.append(mh.await_(see_and_set("set by the coroutine")))
        mh.await_(later())
        return [*seen, variable.get()]

    variable.set("of the submitter")
    assert pool.submit(look).result(30) == [
        "of the submitter",
        "set by the task",
        "set by the coroutine",
    ]
    assert variable.get() == "of the submitter"


def test_an_initializer_and_a_finalizer_may_be_async(capsys: pytest.CaptureFixture[str]) -> None:
    async def prepare() -> None:
        await asyncio.sleep(0)
        mh.worker_state.where = "here"

    async def tidy() -> None:
        print("tidied")

    with mh.GreenletPoolExecutor(initializer=prepare, finalizer=tidy) as pool:
        assert pool.submit(lambda: mh.worker_state.where).result(30) == "here"
    assert capsys.readouterr().out == "tidied\n"

    def fails() -> None:
        raise KeyError("no connection")

    with mh.GreenletPoolExecutor(initializer=fails) as pool, pytest.raises(BrokenExecutor):
        pool.submit(double, 1).result(30)


def test_a_greenlet_that_blocks_is_found(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def blocks() -> None:
        release.wait(60)

    with mh.GreenletPoolExecutor(stall_after=0.05) as pool:
        future = pool.submit(blocks)
        eventually(lambda: pool.statistics()["stalls"], "the loop is found stalled")
        release.set()
        future.result(30)
        eventually(lambda: "in blocks: nothing else ran in it" in caplog.text, "it is told")


def test_maps_take_the_word(pool: mh.GreenletPoolExecutor) -> None:
    assert mh.map(double, range(5), workers="greenlet") == [0, 2, 4, 6, 8]
    assert mh.map(later, range(5), workers="greenlet", max_workers=2) == [*range(5)]
    assert sorted(mh.imap(double, range(5), workers=pool, ordered=False)) == [0, 2, 4, 6, 8]
    assert mh.shared_pool(workers="greenlet").submit(double, 1).result(30) == 2
    with pytest.raises(ValueError, match="'coroutine', 'greenlet', got 'gevent'"):
        mh.map(double, [1], workers="gevent")  # type: ignore[call-overload]


def test_several_loops_share_the_tasks() -> None:
    gate = Gate()

    def where() -> int:
        gate.stand()
        return threading.get_ident()

    with mh.GreenletPoolExecutor(loops=2, max_tasks=2) as pool:
        futures = [pool.submit(where) for _ in range(4)]
        gate.await_inside(4)
        gate.open()
        assert len({future.result(30) for future in futures}) == 2


def test_futures_and_executors_say_what_they_are(pool: mh.GreenletPoolExecutor) -> None:
    gate = Gate()
    future = pool.submit(gate.stand)
    gate.await_inside()
    assert "workers=greenlet" in repr(future)
    assert repr(pool).startswith("<manyhands.GreenletPoolExecutor workers=1/1000 tasks=1")
    gate.open()


def in_a_foreign_greenlet() -> str:
    with pytest.raises(RuntimeError, match="greenlet of the program's own"):
        greenlet.greenlet(mh.await_).switch(later())
    return "said"


async def in_a_coroutine() -> str:
    with pytest.raises(RuntimeError, match=r"this is a coroutine.*write 'await'"):
        mh.await_(later())
    return "said"


def in_a_callback() -> str:
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def call() -> None:
        with pytest.raises(RuntimeError, match="this is a coroutine, or a function that one calls"):
            mh.await_(later())
        said.set_result("said")

    asyncio.get_running_loop().call_soon(call)
    return mh.await_(said)


@pytest.mark.parametrize("place", [in_a_foreign_greenlet, in_a_coroutine, in_a_callback])
def test_the_wrong_place_is_named(
    pool: mh.GreenletPoolExecutor, place: Callable[[], object]
) -> None:
    assert pool.submit(place).result(30) == "said"


def test_a_thread_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"no event loop runs here: submit.*asyncio\.run\(\)"):
        mh.await_(later())


class Mark:
    """Something that can be seen to be gone."""


def test_an_unfinished_greenlet_is_collected_with_its_task() -> None:
    from manyhands._coroutine.greenlets import run

    left: list[type[BaseException]] = []

    def stand(mark: Mark) -> None:
        try:
            mh.await_(asyncio.get_running_loop().create_future())
        except BaseException as error:
            left.append(type(error))
            raise
        finally:
            del mark

    async def begin() -> weakref.ref[Mark]:
        mark = Mark()
        abandoned.append(asyncio.create_task(run(stand, mark)))
        await asyncio.sleep(0)
        return weakref.ref(mark)

    abandoned: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # a task was destroyed that is pending
    mark = loop.run_until_complete(begin())
    loop.close()
    assert mark() is not None
    del loop
    abandoned.clear()
    gc.collect()
    assert mark() is None
    assert left == [GeneratorExit]


def test_results_and_errors_are_dropped_when_they_are_not_used(
    pool: mh.GreenletPoolExecutor,
) -> None:
    def make(raises: bool) -> Mark:
        mark = Mark()
        marks.append(weakref.ref(mark))
        mh.await_(later())
        if raises:
            raise KeyError(mark)
        return mark

    marks: list[weakref.ref[Mark]] = []
    pool.submit(make, False).result(30)
    assert isinstance(pool.submit(make, True).exception(30), KeyError)
    eventually(lambda: not any(mark() for mark in marks), "all is dropped")
