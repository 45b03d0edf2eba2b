"""janus: a queue between threads and an event loop."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from benches.primitives import AsyncQueue, Primitives

if TYPE_CHECKING:
    from benches.contender import Kind


class Janus(Primitives):
    """`janus.Queue`."""

    distribution = "janus"
    labels: ClassVar[dict[Kind, str]] = {"async_thread_queue": "janus"}
    usage: ClassVar[dict[str, str]] = {
        "asyncio": "`await queue.async_q.put(x)`, `queue.sync_q.get()`, and so the other way",
    }

    def __init__(self) -> None:
        self._library = importlib.import_module("janus")

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new queue of the running event loop."""
        queue = self._library.Queue()
        blocking, awaited = queue.sync_q, queue.async_q
        return AsyncQueue(blocking.put, blocking.get, awaited.put, awaited.get)
