"""`coroutine` and `spawn`: generators beside ``async def``, judged by asyncio's own means."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Awaitable, Generator
from typing import Any

import pytest

import manyhands as mh

Steps = Generator[Any, Any, Any]


def run(awaitable: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(awaitable, 60)

    return asyncio.run(main())


@mh.coroutine
def sleeps(seconds: float, result: Any = None) -> Steps:
    return (yield asyncio.sleep(seconds, result))


def leaf(number: int) -> Steps:
    yield
    return (yield asyncio.sleep(0, number))


def test_it_is_a_coroutine_to_asyncio() -> None:
    made = sleeps(0, 5)
    assert asyncio.iscoroutine(made)
    assert inspect.isawaitable(made)
    is_function = inspect if sys.version_info >= (3, 12) else asyncio
    assert is_function.iscoroutinefunction(sleeps)
    assert "sleeps" in repr(made)
    assert run(made) == 5


def test_what_is_yielded_is_awaited() -> None:
    async def native(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @types.coroutine
    def old(number: int) -> Steps:
        yield from asyncio.sleep(0).__await__()
        return number

    class Thing:
        def __await__(self) -> Steps:
            yield from asyncio.sleep(0).__await__()
            return "thing"

    class Steps3:
        """An iterator that cannot be sent anything."""

        def __init__(self) -> None:
            self.left = 3

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> None:
            self.left -= 1
            if not self.left:
                raise StopIteration("three")

    @mh.coroutine
    def main() -> Steps:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "future")
        task = asyncio.create_task(native(4))
        lock = asyncio.Lock()
        yield lock.acquire()
        return [
            (yield None),
            (yield native(1)),
            (yield leaf(2)),
            (yield sleeps(0, 3)),
            (yield task),
            (yield future),
            (yield Thing()),
            (yield old(5)),
            (yield Steps3()),
            (yield from leaf(6)),
            lock.locked(),
        ]

    assert run(main()) == [None, 1, 2, 3, 4, "future", "thing", 5, "three", 6, True]


@pytest.mark.parametrize("odd", [5, "text", [1], print])
def test_anything_else_is_an_error_at_the_yield(odd: object) -> None:
    @mh.coroutine
    def main() -> Steps:
        with pytest.raises(TypeError, match=r"main yielded .*yield takes an awaitable") as raised:
            yield odd
        assert repr(odd) in str(raised.value)
        return "went on"

    assert run(main()) == "went on"


def test_a_yield_that_is_not_caught_fails_the_task() -> None:
    @mh.coroutine
    def main() -> Steps:
        yield 5

    with pytest.raises(TypeError, match=r"main yielded 5, of int"):
        run(main())


def deep(depth: int, bottom: Any) -> Steps:
    return (yield deep(depth - 1, bottom) if depth else bottom())


@mh.coroutine
def deep_decorated(depth: int) -> Steps:
    if depth:
        return (yield deep_decorated(depth - 1))
    return (yield asyncio.sleep(0, "bottom"))


@pytest.mark.parametrize("depth", [1, 10_000])
def test_depth_takes_no_stack(depth: int) -> None:
    async def main() -> None:
        assert await mh.spawn(deep(depth, lambda: asyncio.sleep(0, "bottom"))) == "bottom"
        assert await deep_decorated(depth) == "bottom"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mh.spawn(deep(depth, lambda: asyncio.sleep(60))), 0.05)

    run(main())


def test_an_exception_comes_up_to_who_catches_it() -> None:
    def fails(depth: int) -> Steps:
        yield
        if not depth:
            raise KeyError("deep")
        yield fails(depth - 1)

    @mh.coroutine
    def main() -> Steps:
        try:
            yield fails(50)
        except KeyError as error:
            return error.args, (yield leaf(1))

    assert run(main()) == (("deep",), 1)


def test_cancelling_reaches_the_innermost_first() -> None:
    seen: list[str] = []

    def inner() -> Steps:
        try:
            yield asyncio.sleep(60)
        finally:
            seen.append("inner")
            yield asyncio.sleep(0)
            seen.append("cleaned up")

    @mh.coroutine
    def outer() -> Steps:
        try:
            yield inner()
        except asyncio.CancelledError:
            seen.append("outer")
            raise

    async def main() -> None:
        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())
    assert seen == ["inner", "cleaned up", "outer"]


def test_timeouts_of_asyncio() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleeps(60), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sleeps(60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await mh.spawn(leaf_that_sleeps())
        assert await asyncio.wait_for(sleeps(0, 1), 60) == 1

    def leaf_that_sleeps() -> Steps:
        yield asyncio.sleep(60)

    run(main())


def test_a_timeout_inside_a_generator() -> None:
    @mh.coroutine
    def main() -> Steps:
        limit = asyncio.timeout(0.01)
        yield limit.__aenter__()
        try:
            yield asyncio.sleep(60)
        except asyncio.CancelledError as error:
            with pytest.raises(TimeoutError):
                yield limit.__aexit__(type(error), error, None)
            return "in time"

    assert run(main()) == "in time"


def test_task_groups() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(sleeps(0, n)) for n in range(5)]
        assert [task.result() for task in tasks] == list(range(5))

        @mh.coroutine
        def fails() -> Steps:
            yield
            raise KeyError("one")

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                others.append(group.create_task(sleeps(60)))
                group.create_task(fails())

        others: list[asyncio.Task[Any]] = []
        with pytest.raises(ExceptionGroup) as raised:
            await both()
        assert [type(error) for error in raised.value.exceptions] == [KeyError]
        assert others[0].cancelled()

    run(main())


def test_gather_and_shield() -> None:
    async def main() -> None:
        first, second = await asyncio.gather(sleeps(0, 1), asyncio.shield(sleeps(0, 2)))
        assert (first, second) == (1, 2)

    run(main())


def test_spawn_names_and_keeps_its_task() -> None:
    async def main() -> None:
        task = mh.spawn(leaf(3))
        assert task.get_name().endswith("leaf")
        assert mh.spawn(leaf(1), name="mine").get_name() == "mine"
        mh.spawn(ends())
        import gc

        gc.collect()
        assert await task == 3
        await asyncio.wait_for(ended.wait(), 30)

    def ends() -> Steps:
        yield asyncio.sleep(0.01)
        ended.set()

    ended = asyncio.Event()
    run(main())


def test_spawn_refuses_what_is_none() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match=r"leaf.*call it"):
            mh.spawn(leaf)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not list"):
            mh.spawn([])  # type: ignore[arg-type]

    run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        mh.spawn(leaf(1))


def test_the_decorator_refuses_what_is_no_generator_function() -> None:
    with pytest.raises(TypeError, match="has no yield"):
        mh.coroutine(print)  # type: ignore[arg-type]

    async def native() -> None: ...

    assert mh.coroutine(native) is native  # type: ignore[arg-type]


def test_a_coroutine_runs_once() -> None:
    async def main() -> None:
        made = sleeps(0, 1)
        assert await made == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            await made

    run(main())


def test_one_that_runs_cannot_be_entered() -> None:
    made: Any = None

    @mh.coroutine
    def main() -> Steps:
        with pytest.raises(ValueError, match="already executing"):
            made.send(None)
        yield

    made = main()
    run(made)


def test_close_ends_all_generators_from_the_top() -> None:
    seen: list[str] = []

    def level(name: str, inner: Any) -> Steps:
        try:
            yield inner
        finally:
            seen.append(name)

    made: Any = mh.coroutine(level)("outer", level("inner", None))
    made.send(None)
    made.close()
    assert seen == ["inner", "outer"]
    made.close()


def test_close_says_if_a_generator_goes_on() -> None:
    @mh.coroutine
    def stubborn() -> Steps:
        with contextlib.suppress(GeneratorExit):
            yield
        yield

    made: Any = stubborn()
    made.send(None)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        made.close()


def test_throw_takes_classes_and_instances() -> None:
    @mh.coroutine
    def main() -> Steps:
        try:
            yield
        except KeyError as error:
            return error.args

    for thrown in ((KeyError,), (KeyError("x"),), (KeyError, "x"), (KeyError, KeyError("x"), None)):
        made: Any = main()
        made.send(None)
        with pytest.raises(StopIteration) as stop:
            made.throw(*thrown)
        assert stop.value.value in ((), ("x",))


def test_one_that_is_never_awaited_is_told() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forgotten = sleeps(0)
        del forgotten
    assert "sleeps' was never awaited" in str(caught[0].message)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came with 3.14")
def test_call_graphs_name_every_generator() -> None:
    async def main() -> None:
        task = mh.spawn(deep(2, lambda: asyncio.sleep(60)), name="deep one")
        await asyncio.sleep(0.01)
        graph = asyncio.format_call_graph(task)  # type: ignore[attr-defined]
        assert "deep one" in graph
        assert graph.count("deep()") == 3
        tree = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "asyncio", "pstree", str(os.getpid())],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        task.cancel()
        if "PermissionError" in tree.stderr:  # reading another process's memory
            pytest.skip(tree.stderr)
        assert "deep one" in tree.stdout, tree.stderr

    run(main())
