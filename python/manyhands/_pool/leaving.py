"""The end of an executor's ``async with``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from manyhands._future.awaiting import outcome
from manyhands._task.offload import offload

if TYPE_CHECKING:
    from manyhands._task.target import Target

__all__ = ["leave"]


async def leave(executor: Target, kind: type[BaseException] | None) -> None:
    """Shut `executor` down and wait until all its tasks have ended, while the event loop goes on.

    Whoever is cancelled, in the block or while it waits here, wants none of their results: what has
    not begun is cancelled, what processes run is ended, what threads run is asked to stop.

    Args:
        executor: the executor.
        kind: the class of the exception that ends the block, or None.
    """
    if kind is None or issubclass(kind, Exception):
        try:
            await outcome(offload(executor.shutdown))
        except asyncio.CancelledError:
            await outcome(offload(executor._give_up))
            raise
    else:
        await outcome(offload(executor._give_up))
