"""``await ex.run(...)``: the path from workers to asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from manyhands._future import awaiting
from manyhands._pool.executor import Executor

KINDS = {"thread": mh.ThreadPoolExecutor, "process": mh.ProcessPoolExecutor}


@pytest.fixture(scope="module", params=list(KINDS))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with KINDS[request.param](max_workers=2) as pool:
        # What a pool starts once belongs to the module, not to the first test.
        pool.submit(int).result()
        yield pool


def double(number: int) -> int:
    return 2 * number


def fail(error: BaseException) -> None:
    raise error


def wait_for(path: str) -> None:
    while not Path(path).exists():
        mh.sleep(0.005)


def named(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def test_run_returns_the_result(executor: Executor) -> None:
    assert asyncio.run(executor.run(pow, 2, 10)) == 1024


def test_run_passes_keyword_arguments_on(executor: Executor) -> None:
    result = asyncio.run(executor.run(named, 1, fn=2, self=3))
    assert result == ((1,), {"fn": 2, "self": 3})


def test_run_raises_what_the_task_raised(executor: Executor) -> None:
    with pytest.raises(KeyError, match="lost"):
        asyncio.run(executor.run(fail, KeyError("lost")))


def test_a_stop_iteration_does_not_end_the_coroutine_in_silence(executor: Executor) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(executor.run(fail, StopIteration(3)))


def test_many_at_once(executor: Executor) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*(executor.run(double, each) for each in range(2000)))

    assert asyncio.run(main()) == list(range(0, 4000, 2))


def test_options_apply(executor: Executor) -> None:
    with pytest.raises(mh.TaskTimeout):
        asyncio.run(executor.options(timeout=0.1).run(mh.sleep, 30))


def test_cancelling_the_awaiting_task_cancels_the_call(executor: Executor, tmp_path: Any) -> None:
    gate = str(tmp_path / "gate")

    async def main() -> None:
        blockers = [asyncio.ensure_future(executor.run(wait_for, gate)) for _ in range(2)]
        waiting = asyncio.ensure_future(executor.run(wait_for, gate))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for blocker in blockers:
            blocker.cancel()
        for blocker in blockers:
            with pytest.raises(asyncio.CancelledError):
                await blocker

    asyncio.run(main())
    # Both workers are free again, although the gate never opened.
    assert executor.submit(double, 4).result(timeout=30) == 8


def test_wait_for_works(executor: Executor) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.run(mh.sleep, 30), 0.1)

    asyncio.run(main())
    assert executor.submit(double, 4).result(timeout=30) == 8


def test_the_loop_goes_on_while_tasks_run(executor: Executor, tmp_path: Any) -> None:
    gate = tmp_path / "gate"

    async def main() -> None:
        call = asyncio.ensure_future(executor.run(wait_for, str(gate)))
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert not call.done()
        gate.touch()
        await call

    asyncio.run(main())


def test_several_loops_at_the_same_time(executor: Executor) -> None:
    results: list[int] = []

    async def main() -> None:
        results.append(sum([await executor.run(double, each) for each in range(50)]))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [2450] * 4


def test_completions_are_delivered_in_batches() -> None:
    futures: list[Future[int]] = [Future() for _ in range(100)]
    wake_ups = 0

    def complete() -> None:
        for each, future in enumerate(futures):
            future.set_result(each)

    async def main() -> list[int]:
        nonlocal wake_ups
        waiting = asyncio.gather(*(awaiting.completion(future) for future in futures))
        await asyncio.sleep(0)
        bridge = awaiting._bridge_of(asyncio.get_running_loop())
        deliver = bridge._deliver

        def counted() -> None:
            nonlocal wake_ups
            wake_ups += 1
            deliver()

        asyncio.get_running_loop().add_reader(bridge._fd, counted)
        # While the loop is busy here, all of them complete elsewhere.
        thread = threading.Thread(target=complete)
        thread.start()
        thread.join()
        return await waiting

    assert asyncio.run(main()) == list(range(100))
    assert wake_ups == 1


def test_a_future_that_is_done_needs_no_bridge() -> None:
    future: Future[int] = Future()
    future.set_result(3)
    assert asyncio.run(awaiting.completion(future)) == 3


def test_a_cancelled_future_cancels_the_awaiting_task() -> None:
    async def main() -> None:
        future: Future[int] = Future()
        waiting = asyncio.ensure_future(awaiting.completion(future))
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())


def test_a_completion_after_the_loop_has_closed_harms_nobody() -> None:
    future: Future[int] = Future()

    async def main() -> None:
        waiting = asyncio.ensure_future(awaiting.completion(future))
        await asyncio.sleep(0)
        del waiting

    asyncio.run(main())
    # `asyncio.run` cancels what is left, and with it the future.
    assert future.cancelled()


def test_an_idle_loop_uses_no_cpu(executor: Executor) -> None:
    async def main() -> float:
        await executor.run(double, 1)
        before = time.thread_time()
        await asyncio.sleep(0.2)
        return time.thread_time() - before

    assert asyncio.run(main()) < 0.1
