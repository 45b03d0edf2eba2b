"""Event loops that are closed without being shut down, in several threads at the same time.

Found by use: KeyError and RuntimeError came out of `async_get`, in the place of its own outcome.
"""

from __future__ import annotations

import asyncio
import queue
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import manyhands as mh


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_coroutines_wait_while_other_loops_end() -> None:
    async def look_in_vain(tasks: mh.Queue) -> None:
        with pytest.raises(queue.Empty):
            await tasks.async_get(timeout=0.0001)

    def run_loops(_: int) -> None:
        tasks = mh.Queue()
        for _ in range(60):
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(look_in_vain(tasks))
            finally:
                loop.close()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(run_loops, range(6)))
    finally:
        sys.setswitchinterval(interval)
    # Closes what the last loops have left.
    asyncio.run(look_in_vain(mh.Queue()))
