"""Heat spreads along a rod, computed in rounds by four workers that wait for each other.

python examples/rounds.py thread
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
WORKERS, CELLS, ROUNDS = 4, 60, 100


async def spread(rods: list[Any], first: int, last: int, barrier: mh.Barrier) -> None:
    """Compute its part of the rod in each round, from what all had in the round before."""
    for round_ in range(ROUNDS):
        old, new = rods[round_ % 2], rods[(round_ + 1) % 2]
        for cell in range(first, last):
            new[cell] = (old[max(cell - 1, 0)] + old[cell] + old[min(cell + 1, CELLS - 1)]) / 3
        await barrier.async_wait()  # nobody begins the next round before all have done this one


async def run(kind: str, *calls: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run each call in a thread, process or coroutine of its own."""
    if kind == "coroutine":
        return await asyncio.gather(*(call() for call in calls))
    executor = {"thread": mh.ThreadPoolExecutor, "process": mh.ProcessPoolExecutor}[kind]
    with executor(len(calls)) as pool:
        work = [pool.run(lambda call=call: asyncio.run(call())) for call in calls]
        return await asyncio.gather(*work)


async def main() -> None:
    rods = [mh.Array("d", CELLS, lock=False) for _ in range(2)]
    rods[0][CELLS // 2] = 1000.0
    barrier, part = mh.Barrier(WORKERS), CELLS // WORKERS
    firsts = range(0, CELLS, part)
    await run(KIND, *(partial(spread, rods, first, first + part, barrier) for first in firsts))
    rod = rods[ROUNDS % 2]
    print(f"{sum(rod):.1f} in all, {rod[CELLS // 2]:.2f} in the middle, {rod[0]:.4f} at the end")


asyncio.run(main())
