"""Eight workers, a database that stands two connections: threads, processes or coroutines.

python examples/bounded_resource.py thread
"""

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import manyhands as mh

KIND = sys.argv[1] if len(sys.argv) > 1 else "process"
if KIND not in ("process", "thread", "coroutine"):
    sys.exit(f"usage: python {sys.argv[0]} [process | thread | coroutine]")
WORKERS, CONNECTIONS = 8, 2


async def work(number: int, path: Path, permits: mh.BoundedSemaphore, connected: Any) -> int:
    """Write five rows, each through a connection of its own; return the most at one time."""
    most = 0
    for round_ in range(5):
        async with permits:
            with connected.get_lock():
                connected.value += 1
                most = max(most, connected.value)
            with closing(sqlite3.connect(path)) as database, database:
                await asyncio.sleep(0.01)  # thinks about what to write
                database.execute("INSERT INTO visits VALUES (?, ?)", (number, round_))
            with connected.get_lock():
                connected.value -= 1
    return most


async def run(kind: str, *calls: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run each call in a thread, process or coroutine of its own."""
    if kind == "coroutine":
        return await asyncio.gather(*(call() for call in calls))
    executor = {"thread": mh.ThreadPoolExecutor, "process": mh.ProcessPoolExecutor}[kind]
    with executor(len(calls)) as pool:
        work = [pool.run(lambda call=call: asyncio.run(call())) for call in calls]
        return await asyncio.gather(*work)


async def main() -> None:
    permits = mh.BoundedSemaphore(CONNECTIONS)
    connected = mh.Value("i", 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "visits.db")
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE visits (worker INTEGER, round INTEGER)")
        calls = [partial(work, number, path, permits, connected) for number in range(WORKERS)]
        most = max(await run(KIND, *calls))
        with closing(sqlite3.connect(path)) as database:
            (rows,) = database.execute("SELECT count(*) FROM visits").fetchone()
    print(f"{rows} rows by {WORKERS} workers, at most {most} connected at one time")


asyncio.run(main())
