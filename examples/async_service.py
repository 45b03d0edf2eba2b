"""An event loop that stays responsive while processes compute."""

import asyncio
import time

import manyhands as mh


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


async def heartbeat() -> None:
    """Measures how late the loop wakes up."""
    worst = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.01)
            worst = max(worst, time.perf_counter() - began - 0.01)
    finally:
        print(f"the event loop was late by at most {worst * 1e3:.1f} ms")


async def main() -> None:
    beat = asyncio.create_task(heartbeat())
    with mh.ProcessPoolExecutor() as pool:
        numbers = await asyncio.gather(*(pool.run(fibonacci, 24 + n % 3) for n in range(24)))
        print(f"{len(numbers)} answers, the last one is {numbers[-1]}")
        try:
            async with asyncio.timeout(0.2):
                await pool.run(fibonacci, 60)
        except TimeoutError:
            print("fibonacci(60) was stopped: it would have taken forever")
    beat.cancel()
    await asyncio.gather(beat, return_exceptions=True)


asyncio.run(main())
