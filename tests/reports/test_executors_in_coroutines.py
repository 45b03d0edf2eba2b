"""Executors, maps and pools in coroutines: the event loop goes on while they are waited for.

Reports: equinor/ert#4385 and dask/distributed#5883 (leaving a pool's ``with`` block, or its
``shutdown``, stops the event loop), python/cpython#62309 and others (no asynchronous map).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import pytest

import manyhands as mh
from eventually import eventually

T = TypeVar("T")
Kind: TypeAlias = Literal["auto", "thread", "process"]

EXECUTORS: list[Any] = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]
KINDS: list[Kind] = ["auto", "thread", "process"]
NUMBERS = range(6)
LONG = 0.3  # seconds


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine that waits for long, and assert that the event loop goes on."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def watched() -> T:
        ticking = asyncio.create_task(tick())
        try:
            return await main()
        finally:
            ticking.cancel()

    result = asyncio.run(watched())
    assert ticks >= 3
    return result


def slowly(number: int) -> int:
    time.sleep(LONG / 3)
    return number


def waited_for(item: tuple[Path | None, str]) -> str:
    folder, name = item
    if folder is not None:
        eventually((folder / "go").exists, "the other result arrives")
    return name


def long(number: int) -> int:
    time.sleep(2 * LONG)
    return number


def sleeps(_: object) -> None:
    mh.sleep(600)


def fails_at_two(number: int) -> int:
    if number == 2:
        raise LookupError(number)
    return number


def stops_at_two(number: int) -> int:
    if number == 2:
        raise StopAsyncIteration
    return number


# async with


@pytest.mark.parametrize("kind", EXECUTORS)
def test_leaving_waits_for_all_tasks_while_the_loop_goes_on(kind: Any) -> None:
    async def main() -> list[int]:
        async with kind(2) as pool:
            futures = [pool.submit(long, number) for number in range(3)]
        assert all(future.done() for future in futures)
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(abs, 1)
        return [future.result() for future in futures]

    assert run(main) == [0, 1, 2]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_an_error_in_the_block_waits_too_and_comes_out(kind: Any) -> None:
    async def main() -> Any:
        pool = kind(1)

        async def fail() -> None:
            async with pool:
                futures.append(pool.submit(long, 1))
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            await fail()

    futures: list[Any] = []
    run(main)
    assert futures[0].result(0) == 1


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("where", ["in the block", "while leaving it"])
def test_who_is_cancelled_does_not_wait_for_the_rest(kind: Any, where: str) -> None:
    futures: list[Any] = []

    async def use(begun: asyncio.Event) -> None:
        async with kind(1) as pool:
            futures.extend([pool.submit(sleeps, 0), pool.submit(sleeps, 1)])
            while not futures[0].running():
                await asyncio.sleep(0.01)
            begun.set()
            if where == "in the block":
                await asyncio.sleep(600)

    async def main() -> None:
        begun = asyncio.Event()
        using = asyncio.create_task(use(begun))
        await begun.wait()
        await asyncio.sleep(0.05)
        using.cancel()
        with pytest.raises(asyncio.CancelledError):
            await using

    asyncio.run(main())
    running, queued = futures
    assert queued.cancelled()
    eventually(running.cancelled, "what runs is ended, or stops when it is asked")


def test_a_pool_that_the_loop_itself_uses_can_be_left() -> None:
    async def main() -> int:
        async with mh.ThreadPoolExecutor(1) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            return await asyncio.to_thread(slowly, 7)

    assert asyncio.run(main()) == 7


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_pools_are_terminated_as_with_with(workers: Literal["thread", "process"]) -> None:
    async def main() -> list[int]:
        async with mh.Pool(2, workers=workers) as pool:
            return [result async for result in pool.imap(slowly, NUMBERS)]

    assert run(main) == list(NUMBERS)


# async for


@pytest.mark.parametrize("kind", EXECUTORS)
@pytest.mark.parametrize("chunksize", [1, 4, None])
def test_results_of_imap_come_in_order(kind: Any, chunksize: int | None) -> None:
    async def main() -> list[int]:
        async with kind(2) as pool:
            results = pool.imap(slowly, NUMBERS, chunksize=chunksize)
            return [result async for result in results]

    assert run(main) == list(NUMBERS)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_results_of_imap_unordered_come_as_they_are_ready(kind: Any, tmp_path: Path) -> None:
    async def main() -> list[str]:
        order = []
        async with kind(2) as pool:
            items = [(tmp_path, "first"), (None, "second")]
            async for name in pool.imap_unordered(waited_for, items, chunksize=1):
                order.append(name)
                (tmp_path / "go").touch()
            async for number in pool.imap_unordered(slowly, NUMBERS):
                order.append(str(number))
        return order

    order = run(main)
    assert order[:2] == ["second", "first"]
    assert sorted(order[2:]) == [str(number) for number in NUMBERS]


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("ordered", [True, False])
def test_results_of_the_function_imap(workers: Kind, ordered: bool) -> None:
    async def main() -> list[int]:
        results = mh.imap(slowly, NUMBERS, workers=workers, ordered=ordered)
        return sorted([result async for result in results])

    assert run(main) == list(NUMBERS)


def test_what_auto_chose_in_a_coroutine_is_known() -> None:
    async def main() -> None:
        assert [result async for result in mh.imap(abs, [-1, -2])] == [1, 2]
        choice = mh.last_choice()
        assert choice is not None
        assert choice.kind == "sequential"

    asyncio.run(main())


def test_a_view_with_options_can_be_iterated_as_well() -> None:
    async def main() -> list[int]:
        async with mh.ThreadPoolExecutor(2) as pool:
            return [result async for result in pool.options(retries=1).imap(abs, [-1, -2])]

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_endless_input_is_read_as_results_are_taken(kind: Any) -> None:
    read = 0

    def numbers() -> Iterator[int]:
        nonlocal read
        for number in count():
            read = number
            yield number

    async def main() -> list[int]:
        async with kind(2) as pool:
            results = pool.imap(abs, numbers(), chunksize=1)
            taken = []
            async for result in results:
                taken.append(result)
                if len(taken) == 10:
                    break
            results.close()
            return taken

    assert asyncio.run(main()) == list(range(10))
    assert read < 100


def test_many_small_results_cost_no_thread_each() -> None:
    async def main() -> int:
        async with mh.ProcessPoolExecutor(2) as pool:
            return sum([result async for result in pool.imap(abs, range(200_000))])

    assert asyncio.run(main()) == sum(range(200_000))


@pytest.mark.parametrize("workers", KINDS)
def test_an_error_comes_in_its_place(workers: Kind) -> None:
    async def main() -> list[int]:
        results = aiter(mh.imap(fails_at_two, NUMBERS, workers=workers))
        taken = [await anext(results), await anext(results)]
        with pytest.raises(LookupError):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        return taken

    assert asyncio.run(main()) == [0, 1]


@pytest.mark.parametrize("workers", KINDS)
def test_a_function_cannot_end_the_loop(workers: Kind) -> None:
    async def main() -> None:
        results = mh.imap(stops_at_two, NUMBERS, workers=workers)
        with pytest.raises(RuntimeError, match="StopAsyncIteration"):
            [result async for result in results]

    asyncio.run(main())


def test_a_pools_iterator_goes_on_after_an_error() -> None:
    async def main() -> list[int]:
        async with mh.Pool(2) as pool:
            results = aiter(pool.imap(fails_at_two, NUMBERS))
            taken = [await anext(results), await anext(results)]
            with pytest.raises(LookupError):
                await anext(results)
            return taken + [result async for result in results]

    assert asyncio.run(main()) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_wait_that_is_given_up_loses_no_result(kind: Any) -> None:
    async def main() -> list[int]:
        async with kind(1) as pool:
            results = pool.imap(slowly, NUMBERS, chunksize=1)
            taken: list[int] = []
            while len(taken) < len(NUMBERS):
                try:
                    async with asyncio.timeout(LONG / 10):
                        async for result in results:
                            taken.append(result)
                except TimeoutError:
                    pass
            return taken

    assert run(main) == list(NUMBERS)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_for_and_async_for_may_follow_each_other(kind: Any) -> None:
    async def main() -> list[int]:
        async with kind(2) as pool:
            results = pool.imap(abs, range(100), chunksize=7)
            return [next(results), next(results)] + [result async for result in results]

    assert asyncio.run(main()) == list(range(100))


@pytest.mark.parametrize("way", ["dropped", "aclose"])
def test_an_iterator_nobody_wants_withdraws_its_calls(way: str, tmp_path: Path) -> None:
    def marked(number: int) -> int:
        (tmp_path / str(number)).touch()
        time.sleep(0.02)
        return number

    async def take(results: Any) -> None:
        async for _ in results:
            await asyncio.sleep(0.001)

    async def main() -> None:
        async with mh.ThreadPoolExecutor(1) as pool:
            results: Any = aiter(pool.imap(marked, range(1000), chunksize=1))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(take(results), 0.1)
            if way == "aclose":
                await results.aclose()
                with pytest.raises(StopAsyncIteration):
                    await anext(results)
            del results
            gc.collect()

    asyncio.run(main())
    assert 1 <= len(list(tmp_path.iterdir())) < 100


# amap


@pytest.mark.parametrize("workers", KINDS)
def test_amap_returns_what_map_does(workers: Kind) -> None:
    async def main() -> list[int]:
        return await mh.amap(slowly, NUMBERS, workers=workers)

    assert run(main) == list(NUMBERS)


def test_amap_takes_what_map_takes() -> None:
    async def main() -> None:
        shown: list[tuple[int, int | None]] = []
        async with mh.ThreadPoolExecutor(2) as pool:
            results = await mh.amap(
                pow,
                [2, 3],
                [10, 4],
                workers=pool,
                max_workers=1,
                timeout=5,
                retries=1,
                progress=lambda done, total: shown.append((done, total)),
                chunksize=1,
            )
        assert results == [1024, 81]
        assert shown[-1] == (2, 2)
        with pytest.raises(TypeError, match="callable"):
            await mh.amap(7, [1])  # type: ignore[call-overload]
        with pytest.raises(LookupError):
            await mh.amap(fails_at_two, NUMBERS)

    asyncio.run(main())


def test_what_auto_chose_is_known_to_the_caller() -> None:
    async def main() -> None:
        await mh.amap(abs, [-1, -2])
        choice = mh.last_choice()
        assert choice is not None
        assert choice.kind == "sequential"
        assert mh.map(abs, [-1]) == [1]

    asyncio.run(main())


VARIABLE: ContextVar[str] = ContextVar("variable", default="default")


@pytest.mark.parametrize("workers", ["auto", "thread"])
def test_functions_see_the_callers_variables(workers: Kind) -> None:
    async def main() -> list[str]:
        VARIABLE.set("set")
        return await mh.amap(lambda _: VARIABLE.get(), range(3), workers=workers)

    assert asyncio.run(main()) == ["set"] * 3


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_cancelling_the_awaiting_task_cancels_the_work(workers: Kind, tmp_path: Path) -> None:
    def marked(number: int) -> None:
        (tmp_path / f"begun {number}").touch()
        try:
            mh.sleep(600)
        finally:
            (tmp_path / f"ended {number}").touch()

    def count_of(what: str) -> int:
        return len(list(tmp_path.glob(f"{what} *")))

    async def main() -> None:
        executor = mh.ThreadPoolExecutor if workers == "thread" else mh.ProcessPoolExecutor
        async with executor(2) as pool:
            work = asyncio.create_task(mh.amap(marked, range(10), workers=pool, chunksize=1))
            while count_of("begun") < 2:
                await asyncio.sleep(0.01)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            # The workers are free again.
            assert await pool.run(abs, -1) == 1

    asyncio.run(main())
    assert count_of("begun") == 2
    eventually(lambda: count_of("ended") == 2, "both have been stopped")


def test_cancelling_ends_what_is_done_one_after_the_other(tmp_path: Path) -> None:
    def marked(number: int) -> None:
        (tmp_path / str(number)).touch()
        time.sleep(0.001)

    async def main() -> int:
        # One worker: nothing to be shared out.
        work = asyncio.create_task(mh.amap(marked, range(100_000), max_workers=1))
        while not (tmp_path / "100").exists():
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await asyncio.sleep(0.2)
        return len(list(tmp_path.iterdir()))

    begun = asyncio.run(main())
    time.sleep(0.1)
    assert len(list(tmp_path.iterdir())) == begun


def test_many_maps_at_the_same_time() -> None:
    async def main() -> list[list[int]]:
        maps = [mh.amap(abs, [-number], workers="thread") for number in range(200)]
        return list(await asyncio.gather(*maps))

    assert asyncio.run(main()) == [[number] for number in range(200)]


def test_a_loop_that_ends_cancels_the_maps_it_leaves(tmp_path: Path) -> None:
    def marked(number: int) -> None:
        (tmp_path / f"begun {number}").touch()
        try:
            mh.sleep(600)
        finally:
            (tmp_path / f"ended {number}").touch()

    async def main() -> None:
        left.append(asyncio.create_task(mh.amap(marked, [0], workers="thread")))
        while not (tmp_path / "begun 0").exists():
            await asyncio.sleep(0.01)

    left: list[Any] = []
    asyncio.run(main())
    assert left[0].cancelled()
    eventually(lambda: (tmp_path / "ended 0").exists(), "the work ends with its loop")
