"""aioprocessing: multiprocessing's primitives, awaited through threads."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from benches.primitives import AsyncQueue, Primitives

if TYPE_CHECKING:
    from benches.contender import Kind


class Aioprocessing(Primitives):
    """`aioprocessing.AioQueue`."""

    distribution = "aioprocessing"
    labels: ClassVar[dict[Kind, str]] = {"async_queue": "aioprocessing"}
    usage: ClassVar[dict[str, str]] = {
        "asyncio": "`await queue.coro_put(x)`, `await queue.coro_get()` of an `AioQueue()`",
    }

    def __init__(self) -> None:
        self._library = importlib.import_module("aioprocessing")

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new queue."""
        queue = self._library.AioQueue()
        return AsyncQueue(queue.put, queue.get, queue.coro_put, queue.coro_get)
