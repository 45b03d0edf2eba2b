"""What comes after a future: a function of its result, or a task that has it as an argument.

Reports: python/cpython#5335 (bpo-32672), pyiron/executorlib#304, dask/distributed#4: without it, a
worker or the caller waits in between, and pools that wait for themselves hang.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

import manyhands as mh

EXECUTORS: list[Any] = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]


@pytest.fixture(params=EXECUTORS)
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a pool of one worker, so that nobody may wait in it for anybody else."""
    with request.param(1) as executor:
        yield executor


def fail(what: object) -> NoReturn:
    """Fail."""
    raise ValueError(what)


def half(number: int) -> float:
    """Return the half."""
    return number / 2


# -- then ---------------------------------------------------------------------------------------


def test_then_has_the_result(pool: Any) -> None:
    future = pool.submit(pow, 2, 10).then(half).then(str)
    assert type(future) is mh.Future
    assert future.result() == "512.0"
    done = pool.submit(abs, -3)
    assert done.result() == 3
    assert done.then(half).done()
    assert done.then(half).result() == 1.5


def test_then_runs_in_the_callers_process_and_context(pool: Any) -> None:
    seen: list[Any] = []
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    pool.submit(abs, -1).then(lambda result: seen.append((result, variable.get()))).result()
    assert seen == [(1, "mine")]


def test_exceptions_pass_through(pool: Any) -> None:
    called: list[Any] = []
    future = pool.submit(fail, "first").then(called.append).then(called.append)
    with pytest.raises(ValueError, match="first"):
        future.result()
    assert not called
    with pytest.raises(ValueError, match="second"):
        pool.submit(abs, -1).then(lambda _: fail("second")).then(str).result()
    with pytest.raises(TypeError, match="then"):
        pool.submit(abs, -1).then(5)


def test_cancelling_goes_on_but_not_back(pool: Any) -> None:
    gate = pool.submit(mh.sleep, 0.3)
    first = pool.submit(abs, -1)
    second = first.then(half)
    third = second.then(half)
    assert not third.running()
    assert second.cancel()
    assert third.cancelled()
    assert mh.wait([second, third], timeout=30).not_done == set()
    assert first.result() == 1
    gate.result()
    fourth = pool.submit(mh.sleep, 60)
    fifth = fourth.then(str)
    fourth.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        fifth.result()


def test_a_function_that_runs_cannot_be_cancelled() -> None:
    source: mh.Future[int] = mh.Future()
    asked: list[bool] = []

    def ask(number: int) -> int:
        asked.append(future.running())
        asked.append(future.cancel())
        return number

    future = source.then(ask)
    source.set_result(4)
    assert future.result() == 4
    assert asked == [True, False]


def test_long_chains(pool: Any) -> None:
    future: Any = pool.submit(abs, 0)
    for _ in range(5000):
        future = future.then(lambda number: number + 1)
    assert future.result() == 5000
    many: Any = mh.Future()
    last: Any = many
    for _ in range(5000):
        last = last.then(lambda number: number + 1)
    many.set_result(0)
    assert last.result() == 5000


def test_a_worker_that_waits_for_what_comes_after_its_own_pools_tasks() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        after: Any = pool.options(wait_for_futures=True)

        def wait_in_worker() -> list[float]:
            one: Any = pool.submit(abs, -8).then(half)
            two = after.submit(half, pool.submit(half, pool.submit(abs, -4).result()))
            three: Any = after.submit(half, after.submit(half, one)).then(half)
            mh.wait([pool.submit(abs, -1).then(half)], timeout=30)
            return [one.result(), two.result(), three.result(timeout=30)]

        assert pool.submit(wait_in_worker).result() == [4.0, 1.0, 0.5]


# -- dependencies -------------------------------------------------------------------------------


def test_futures_among_the_arguments_are_waited_for(pool: Any) -> None:
    after: Any = pool.options(wait_for_futures=True)
    one = after.submit(abs, -1)
    two = after.submit(half, one)
    assert after.submit(divmod, one, two).result() == (2.0, 0.0)
    assert after.submit(int, "ff", base=after.submit(abs, -16)).result() == 255
    assert after.submit(sum, [one, two, 3]).result() == 4.5
    assert after.submit(sorted, {"a": one}).result() == ["a"]
    assert (
        after.submit(dict, a=(one, [one])).exception() is not None or not pool._kind.ships_functions
    )
    assert after.submit(abs, -7).result() == 7
    with pytest.raises(TypeError):
        pool.submit(half, one).result()  # without the option it is an argument like any other


def test_no_worker_waits(pool: Any) -> None:
    after: Any = pool.options(wait_for_futures=True)
    source: mh.Future[int] = mh.Future()
    future = after.submit(half, source)
    assert pool.submit(abs, -1).result() == 1
    assert not future.running()
    assert not future.done()
    source.set_result(6)
    assert future.result() == 3
    theirs: concurrent.futures.Future[int] = concurrent.futures.Future()
    future = after.submit(half, theirs)
    threading.Timer(0.1, theirs.set_result, [8]).start()
    assert future.result() == 4


def test_failed_and_cancelled_inputs(pool: Any) -> None:
    after: Any = pool.options(wait_for_futures=True)
    never: mh.Future[int] = mh.Future()
    source = pool.submit(fail, "the cause")
    future = after.submit(divmod, never, source)
    with pytest.raises(ValueError, match="the cause") as caught:
        future.result()
    assert caught.value is source.exception()
    future = after.submit(divmod, never, 1)
    other = after.submit(half, future)
    never.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    assert other.cancelled()
    assert pool.submit(abs, -1).result() == 1


def test_a_task_that_waits_can_be_cancelled(pool: Any) -> None:
    after: Any = pool.options(wait_for_futures=True)
    source: mh.Future[int] = mh.Future()
    future = after.submit(half, source)
    assert future.cancel()
    assert mh.wait([future], timeout=30).done == {future}
    source.set_result(1)
    assert future.cancelled()


def test_a_task_that_had_waited_can_be_cancelled(pool: Any) -> None:
    after: Any = pool.options(wait_for_futures=True)
    gate = pool.submit(mh.sleep, 0.2)
    future = after.submit(mh.sleep, pool.submit(abs, 60))
    gate.result()
    while not future.running():
        time.sleep(0.01)
    future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    assert pool.submit(abs, -1).result() == 1


@pytest.mark.parametrize("kind", EXECUTORS)
def test_leaving_with_waits_for_them(kind: Any) -> None:
    source: mh.Future[int] = mh.Future()
    with kind(1) as pool:
        after: Any = pool.options(wait_for_futures=True, retries=1)
        future = after.submit(half, after.submit(half, source))
        threading.Timer(0.2, source.set_result, [8]).start()
    assert future.done()
    assert future.result() == 2


@pytest.mark.parametrize("kind", EXECUTORS)
def test_shutting_down_without_waiting(kind: Any) -> None:
    source: mh.Future[int] = mh.Future()
    pool = kind(1)
    after: Any = pool.options(wait_for_futures=True)
    future: Any = after.submit(half, source)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        after.submit(half, source)
    source.set_result(6)
    assert future.result() == 3
    pool.shutdown(wait=True)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_shutting_down_with_cancelling(kind: Any) -> None:
    source: mh.Future[int] = mh.Future()
    pool = kind(1)
    after: Any = pool.options(wait_for_futures=True)
    future: Any = after.submit(half, after.submit(half, source))
    pool.shutdown(wait=True, cancel_futures=True)
    assert future.cancelled()
    pool = mh.ProcessPoolExecutor(1)
    after = pool.options(wait_for_futures=True)
    future = after.submit(half, source)
    pool.terminate()
    assert future.cancelled()
    pool.shutdown(wait=True)


def test_from_one_kind_of_worker_to_the_other() -> None:
    with mh.ThreadPoolExecutor(1) as threads, mh.ProcessPoolExecutor(1) as processes:
        one: Any = threads.options(wait_for_futures=True)
        two: Any = processes.options(wait_for_futures=True)
        future: Any = 4096
        for _ in range(4):
            future = two.submit(half, one.submit(half, future))
        assert future.result() == 16


def test_what_cannot_be_sent_fails_the_task() -> None:
    with mh.ThreadPoolExecutor(1) as threads, mh.ProcessPoolExecutor(1) as processes:
        lock = threads.submit(threading.Lock)
        future = processes.options(wait_for_futures=True).submit(str, lock)
        with pytest.raises(TypeError, match="lock"):
            future.result()


def test_variables_are_those_of_whoever_submitted(pool: Any) -> None:
    source: mh.Future[int] = mh.Future()
    token = VARIABLE.set("mine")
    future = pool.options(wait_for_futures=True).submit(look, source)
    VARIABLE.reset(token)
    source.set_result(1)
    assert future.result() == "mine"


VARIABLE = contextvars.ContextVar("VARIABLE", default="none")


def look(_: object) -> str:
    """Return the variable's value in a worker."""
    return VARIABLE.get()


def test_a_forked_child_does_not_wait_for_ever(pool: Any) -> None:
    gate = pool.submit(time.sleep, 1)
    after: Any = pool.options(wait_for_futures=True)
    own: mh.Future[int] = mh.Future()
    mine = own.then(half)
    waiting = [gate.then(str), gate.then(str).then(str), after.submit(str, gate)]
    child = os.fork()
    if not child:
        code = 1
        try:
            own.set_result(4)
            errors = [future.exception(20) for future in waiting]
            if mine.result(20) == 2 and all(isinstance(e, mh.ManyhandsError) for e in errors):
                code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert [future.result() for future in waiting] == ["None"] * 3


async def both(pool: Any) -> float:
    """Await a task that waits for another."""
    after: Any = pool.options(wait_for_futures=True)
    result: float = await after.run(half, after.submit(half, 8))
    return result


def test_awaiting(pool: Any) -> None:
    import asyncio

    assert asyncio.run(both(pool)) == 2
