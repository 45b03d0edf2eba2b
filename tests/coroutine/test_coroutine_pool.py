"""`CoroutinePoolExecutor`: async functions, submitted from any thread."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import importlib
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

with contextlib.suppress(ImportError):
    # Its library keeps a pipe for signals, for as long as the process lives.
    importlib.import_module("uvloop").new_event_loop().close()

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def pool() -> Iterator[mh.CoroutinePoolExecutor]:
    with mh.CoroutinePoolExecutor() as executor:
        yield executor


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def double_later(number: int) -> Any:
    yield asyncio.sleep(0)
    return 2 * number


async def at_once(number: int) -> int:
    return number


async def raises(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


class Gate:
    """Tasks that stand in a loop until they are let go."""

    def __init__(self) -> None:
        self.inside = threading.Semaphore(0)
        self._opened: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def stand(self, what: Any = None) -> Any:
        event = asyncio.Event()
        self._opened.append((asyncio.get_running_loop(), event))
        self.inside.release()
        await asyncio.wait_for(event.wait(), 60)  # if the test has failed
        return what

    def await_inside(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.inside.acquire(timeout=30)

    def open(self) -> None:
        while self._opened:
            loop, event = self._opened.pop()
            loop.call_soon_threadsafe(event.set)


@pytest.mark.parametrize("fn", [double, double_later, mh.coroutine(double_later)])
def test_what_is_submitted_runs_in_a_loop(pool: mh.CoroutinePoolExecutor, fn: Any) -> None:
    assert [pool.submit(fn, n).result(30) for n in range(5)] == [0, 2, 4, 6, 8]
    assert list(pool.map(fn, range(50))) == [2 * n for n in range(50)]


def test_partials_methods_and_objects_will_do(pool: mh.CoroutinePoolExecutor) -> None:
    class Adder:
        async def add(self, x: int, y: int) -> int:
            return x + y

        async def __call__(self, x: int) -> int:
            return x

    assert pool.submit(functools.partial(Adder().add, 2), y=3).result(30) == 5
    assert pool.submit(Adder(), 4).result(30) == 4
    assert pool.submit(asyncio.sleep, 0, "slept").result(30) == "slept"


def test_keywords_are_all_the_functions(pool: mh.CoroutinePoolExecutor) -> None:
    async def take(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    assert pool.submit(take, 1, self=2, fn=3, timeout=4).result(30) == (
        (1,),
        {"self": 2, "fn": 3, "timeout": 4},
    )


def test_what_cannot_be_awaited_is_named(pool: mh.CoroutinePoolExecutor) -> None:
    fn: Any = abs
    with pytest.raises(TypeError, match=r"abs returned int.*ThreadPoolExecutor"):
        pool.submit(fn, -1).result(30)
    nothing: Any = 5
    with pytest.raises(TypeError, match="callable, not int"):
        pool.submit(nothing)


def test_an_exception_is_the_futures(pool: mh.CoroutinePoolExecutor) -> None:
    error = KeyError("here")
    with pytest.raises(KeyError) as raised:
        pool.submit(raises, error).result(30)
    assert raised.value is error


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_the_loop_outlives_every_exception(
    pool: mh.CoroutinePoolExecutor, kind: type[BaseException]
) -> None:
    assert isinstance(pool.submit(raises, kind()).exception(30), kind)
    assert pool.submit(double, 4).result(30) == 8


def test_a_loop_that_is_stopped_goes_on(pool: mh.CoroutinePoolExecutor) -> None:
    async def stop() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.001)
        return "went on"

    assert pool.submit(stop).result(30) == "went on"


def test_a_coroutine_that_cancels_itself_is_cancelled(pool: mh.CoroutinePoolExecutor) -> None:
    with pytest.raises(CancelledError):
        pool.submit(raises, asyncio.CancelledError()).result(30)
    with pytest.raises(CancelledError):
        pool.submit(raises, mh.TaskCancelled()).result(30)
    assert pool.statistics()["cancelled"] == 2


def test_many_threads_submit_to_many_loops() -> None:
    with mh.CoroutinePoolExecutor(loops=3) as pool:
        sums: list[int] = []

        def submit() -> None:
            futures = [pool.submit(double if n % 2 else at_once, n) for n in range(300)]
            sums.append(sum(future.result(30) for future in futures))

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sums == [sum(2 * n if n % 2 else n for n in range(300))] * 4


def test_loops_get_the_same_number() -> None:
    gate = Gate()
    # One after the other, and without questions in between: a loop that is slow to answer gets
    # fewer, and on a busy machine any may be.
    with mh.CoroutinePoolExecutor(loops=3, stall_after=None) as pool:
        for _ in range(30):
            pool.submit(gate.stand)
            gate.await_inside()
        workers = pool.statistics()["workers"]
        gate.open()
    assert [worker["tasks_running"] for worker in workers] == [10, 10, 10]


def test_loops_start_as_they_are_needed() -> None:
    with mh.CoroutinePoolExecutor(loops=4) as pool:
        for n in range(20):
            assert pool.submit(double, n).result(30) == 2 * n
        assert len(pool.statistics()["workers"]) == 1


def test_max_tasks_is_the_most_and_the_rest_go_by_priority() -> None:
    gate, order = Gate(), []

    async def note(what: int) -> None:
        order.append(what)

    with mh.CoroutinePoolExecutor(max_tasks=2) as pool:
        held = [pool.submit(gate.stand) for _ in range(2)]
        gate.await_inside(2)
        waiting = [pool.options(priority=n % 3).submit(note, n) for n in range(9)]
        found = pool.statistics()
        assert (found["running"], found["queued"]) == (2, 9)
        gate.open()
        mh.wait([*held, *waiting])
    assert order == [2, 5, 8, 1, 4, 7, 0, 3, 6]


def test_resize_lets_more_run() -> None:
    gate = Gate()
    with mh.CoroutinePoolExecutor(max_tasks=1) as pool:
        futures = [pool.submit(gate.stand) for _ in range(4)]
        gate.await_inside()
        assert pool.statistics()["running"] == 1
        pool.resize(3)
        gate.await_inside(2)
        assert pool.statistics()["running"] == 3
        while not all(future.done() for future in futures):
            gate.open()
            mh.wait(futures, timeout=0.01)
    with pytest.raises(ValueError, match="greater than 0"):
        pool.resize(0)


def test_a_running_task_is_cancelled_by_its_future(pool: mh.CoroutinePoolExecutor) -> None:
    gate, ended = Gate(), threading.Event()

    async def stand() -> None:
        try:
            await gate.stand()
        except asyncio.CancelledError:
            ended.set()
            raise

    future = pool.submit(stand)
    gate.await_inside()
    assert future.running()
    assert future.cancel()
    assert future.cancelled()
    assert ended.wait(30)
    assert pool.statistics()["cancelled"] == 1
    eventually(lambda: pool.statistics()["running"] == 0, "the task ends")
    assert pool.submit(double, 2).result(30) == 4


def test_what_waits_is_cancelled_and_never_runs() -> None:
    gate = Gate()
    with mh.CoroutinePoolExecutor(max_tasks=1) as pool:
        held = pool.submit(gate.stand, "held")
        gate.await_inside()
        waiting = pool.submit(gate.stand)
        assert waiting.cancel()
        assert pool.statistics()["queued"] == 0
        gate.open()
        assert held.result(30) == "held"
        assert pool.submit(double, 1).result(30) == 2
    assert not gate.inside.acquire(blocking=False)


def test_a_task_that_will_not_be_cancelled_is_waited_for() -> None:
    gate, ended = Gate(), []

    async def stubborn() -> str:
        try:
            await gate.stand()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
        ended.append(True)
        return "dropped"

    with mh.CoroutinePoolExecutor() as pool:
        future = pool.submit(stubborn)
        gate.await_inside()
        assert future.cancel()
    assert ended
    assert future.cancelled()


def test_shutdown_lets_what_is_queued_end() -> None:
    pool = mh.CoroutinePoolExecutor(max_tasks=2)
    futures = [pool.submit(double, n) for n in range(20)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == [2 * n for n in range(20)]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(double, 1)
    pool.shutdown()


def test_shutdown_cancels_what_is_queued() -> None:
    gate = Gate()
    pool = mh.CoroutinePoolExecutor(max_tasks=1)
    futures = [pool.submit(gate.stand, n) for n in range(3)]
    gate.await_inside()
    pool.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, True, True]
    gate.open()
    assert futures[0].result(30) == 0
    pool.shutdown()


def test_an_executor_that_nobody_uses_ends_with_its_tasks() -> None:
    gate = Gate()
    pool = mh.CoroutinePoolExecutor()
    future = pool.submit(gate.stand, "done")
    gate.await_inside()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
    gate.open()
    assert future.result(30) == "done"


def test_arguments_and_results_are_dropped(pool: mh.CoroutinePoolExecutor) -> None:
    class Thing:
        pass

    async def make(_: Thing) -> Thing:
        return Thing()

    argument = Thing()
    future = pool.submit(make, argument)
    result = weakref.ref(future.result(30))
    argument_ref = weakref.ref(argument)
    del future, argument
    gc.collect()
    eventually(lambda: result() is None and argument_ref() is None, "both are gone")


def test_a_failure_makes_no_circle(pool: mh.CoroutinePoolExecutor) -> None:
    gc.collect()
    gc.disable()
    try:
        future = pool.submit(raises, ValueError("x"))
        assert future.exception(30)
        gone = weakref.ref(future)
        del future
        eventually(lambda: gone() is None, "the future is gone")
    finally:
        gc.enable()


def test_context_variables_are_the_submitters(pool: mh.CoroutinePoolExecutor) -> None:
    async def get() -> str:
        found = variable.get()
        variable.set("the task's")
        await asyncio.sleep(0)
        return found

    token = variable.set("the submitter's")
    try:
        assert pool.submit(get).result(30) == "the submitter's"
        assert variable.get() == "the submitter's"
    finally:
        variable.reset(token)
    assert pool.submit(get).result(30) == "unset"


async def connect(text: str) -> None:
    await asyncio.sleep(0)
    variable.set(text)
    mh.worker_state.text = text


def test_initializer_and_finalizer() -> None:
    ended = []

    async def finish() -> None:
        await asyncio.sleep(0)
        ended.append(mh.worker_state.text)

    async def get() -> Any:
        return variable.get(), mh.worker_state.text, mh.worker_index()

    with mh.CoroutinePoolExecutor(
        initializer=connect, initargs=("set up",), finalizer=finish
    ) as pool:
        assert pool.submit(get).result(30) == ("set up", "set up", 0)
        token = variable.set("the submitter's")
        assert pool.submit(get).result(30) == ("the submitter's", "set up", 0)
        variable.reset(token)
    assert ended == ["set up"]


def test_an_initializer_that_fails_breaks_the_pool(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("no such thing")

    with mh.CoroutinePoolExecutor(initializer=fail) as pool:
        with pytest.raises(BrokenExecutor):
            pool.submit(double, 1).result(30)
        with pytest.raises(BrokenExecutor):
            pool.submit(double, 1)
    assert "no such thing" in caplog.text


def test_a_loop_factory_that_fails_fails_its_tasks(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> asyncio.AbstractEventLoop:
        raise OSError("no loop")

    with mh.CoroutinePoolExecutor(loop_factory=fail) as pool:
        error = pool.submit(double, 1).exception(30)
    assert isinstance(error, BrokenExecutor)
    assert "no loop" in str(error)
    assert "no loop" in caplog.text


def test_a_loop_factory_makes_the_loop() -> None:
    made = []

    def make() -> asyncio.AbstractEventLoop:
        made.append(asyncio.SelectorEventLoop())
        return made[-1]

    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with mh.CoroutinePoolExecutor(loop_factory=make) as pool:
        assert pool.submit(running).result(30) is made[0]


def test_uvloop_will_do() -> None:
    uvloop = pytest.importorskip("uvloop")
    with mh.CoroutinePoolExecutor(loop_factory=uvloop.new_event_loop) as pool:
        assert list(pool.map(double, range(500))) == [2 * n for n in range(500)]
        future = pool.submit(asyncio.sleep, 1000)
        eventually(future.running, "it runs")
        assert future.cancel()


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"loops": 0}, ValueError),
        ({"loops": "2"}, TypeError),
        ({"max_tasks": 0}, ValueError),
        ({"loop_factory": 1}, TypeError),
        ({"initializer": 1}, TypeError),
        ({"finalizer": 1}, TypeError),
        ({"stall_after": 0}, ValueError),
        ({"stall_after": float("nan")}, ValueError),
    ],
)
def test_bad_arguments_are_refused(keywords: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(keywords))):
        mh.CoroutinePoolExecutor(**keywords)


def test_waiting_in_a_loop_for_its_own_pool_is_refused(pool: mh.CoroutinePoolExecutor) -> None:
    async def waits() -> Any:
        return pool.submit(double, 1).result()

    with pytest.raises(RuntimeError, match=r"await asyncio\.wrap_future"):
        pool.submit(waits).result(30)

    async def awaits() -> Any:
        return await asyncio.wrap_future(pool.submit(double, 1))

    assert pool.submit(awaits).result(30) == 2


def test_async_with_and_run() -> None:
    async def main() -> int:
        async with mh.CoroutinePoolExecutor(loops=2) as pool:
            return sum(await asyncio.gather(*(pool.run(double, n) for n in range(20))))

    assert asyncio.run(main()) == 380


def test_a_cancelled_block_cancels_what_runs() -> None:
    gate, ended = Gate(), threading.Event()

    async def stand() -> None:
        try:
            await gate.stand()
        finally:
            ended.set()

    async def main() -> None:
        async with mh.CoroutinePoolExecutor() as pool:
            pool.submit(stand)
            await asyncio.to_thread(gate.await_inside)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert ended.wait(30)


def test_dependencies_are_awaited(pool: mh.CoroutinePoolExecutor) -> None:
    async def add(numbers: list[int], more: int) -> int:
        return sum(numbers) + more

    view = pool.options(wait_for_futures=True)
    parts = [pool.submit(double, n) for n in range(4)]
    whole = view.submit(add, parts, more=view.submit(double, pool.submit(double, 5)))
    assert whole.result(30) == 12 + 20
    failed = view.submit(double, pool.submit(raises, KeyError("part")))
    with pytest.raises(KeyError, match="part"):
        failed.result(30)


def test_a_dependent_task_runs_although_the_pool_is_shut_down() -> None:
    gate = Gate()
    pool = mh.CoroutinePoolExecutor()
    held = pool.submit(gate.stand, 3)
    after = pool.options(wait_for_futures=True).submit(double, held)
    gate.await_inside()
    pool.shutdown(wait=False)
    gate.open()
    assert after.result(30) == 6
    pool.shutdown()


def test_repr_says_what_there_is() -> None:
    gate = Gate()
    with mh.CoroutinePoolExecutor(loops=2, max_tasks=5) as pool:
        future = pool.submit(gate.stand)
        gate.await_inside()
        assert "CoroutinePoolExecutor workers=1/10 tasks=1" in repr(pool)
        assert "workers=coroutine" in repr(future)
        gate.open()
    assert "shut down" in repr(pool)


def test_statistics() -> None:
    gate = Gate()
    with mh.CoroutinePoolExecutor(thread_name_prefix="loop") as pool:
        assert pool.submit(double, 1).result(30) == 2
        assert pool.submit(raises, KeyError()).exception(30)
        future = pool.options(name="standing").submit(gate.stand)
        gate.await_inside()
        found = pool.statistics()
        (worker,) = found.pop("workers")
        assert found == {
            "queued": 0,
            "running": 1,
            "done": 1,
            "failed": 1,
            "cancelled": 0,
            "retried": 0,
            "stalls": 0,
        }
        assert worker["thread"] == "loop_0"
        assert worker["state"] == "running"
        assert worker["task"] == "standing"
        assert worker["tasks_done"] == 2
        assert worker["pid"] == os.getpid()
        gate.open()
        future.result(30)
        assert pool.statistics()["workers"][0]["state"] == "idle"


def test_no_lost_wake_ups_between_bursts(pool: mh.CoroutinePoolExecutor) -> None:
    for burst in range(300):
        futures = [pool.submit(at_once, n) for n in range(1 + burst % 7)]
        assert [future.result(30) for future in futures] == list(range(1 + burst % 7))
