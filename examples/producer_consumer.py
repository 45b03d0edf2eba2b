"""Producers and consumers around one queue, in threads, processes or coroutines.

python examples/producer_consumer.py thread
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import manyhands as mh

KIND = sys.argv[1] if len(sys.argv) > 1 else "process"
if KIND not in ("process", "thread", "coroutine"):
    sys.exit(f"usage: python {sys.argv[0]} [process | thread | coroutine]")


async def produce(orders: mh.Queue, first: int) -> None:
    for number in range(first, first + 500):
        await orders.async_put(number)  # waits while the queue is full


async def consume(orders: mh.Queue) -> tuple[int, int]:
    count = total = 0
    async for number in orders:  # until it is shut down, and empty
        count += 1
        total += number
    return count, total


async def run(kind: str, *calls: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run each call in a thread, process or coroutine of its own."""
    if kind == "coroutine":
        return await asyncio.gather(*(call() for call in calls))
    executor = {"thread": mh.ThreadPoolExecutor, "process": mh.ProcessPoolExecutor}[kind]
    with executor(len(calls)) as pool:
        work = [pool.run(lambda call=call: asyncio.run(call())) for call in calls]
        return await asyncio.gather(*work)


async def main() -> None:
    orders: mh.Queue = mh.Queue(maxsize=10)
    consumers = asyncio.create_task(run(KIND, *[partial(consume, orders)] * 2))
    await run(KIND, *(partial(produce, orders, first) for first in (0, 500, 1000)))
    orders.shutdown()
    done = await consumers
    print(f"{sum(count for count, _ in done)} orders, the sum is {sum(total for _, total in done)}")


asyncio.run(main())
