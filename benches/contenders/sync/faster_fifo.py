"""faster-fifo, a queue in shared memory written in C++."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from benches.primitives import Batches, Primitives

if TYPE_CHECKING:
    from benches.contender import Kind

# Bytes: for the largest run of the largest items, since it is never made larger.
ROOM = 64 * 2**20
# Its calls give up after ten seconds by default.
PATIENCE_S = 60.0


class FasterFifo(Primitives):
    """`faster_fifo.Queue`."""

    distribution = "faster_fifo"
    labels: ClassVar[dict[Kind, str]] = {"queue": "faster-fifo", "batches": "faster-fifo"}
    usage: ClassVar[dict[str, str]] = {
        "queue": "`Queue(64 MiB)`; by the many: `put_many(items)`, `get_many(...)`",
    }

    def __init__(self) -> None:
        self._library = importlib.import_module("faster_fifo")

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new queue."""
        queue = self._library.Queue(max_size_bytes=ROOM)
        if kind == "queue":
            return queue

        def get_many(most: int) -> list[Any]:
            found: list[Any] = queue.get_many(timeout=PATIENCE_S, max_messages_to_get=most)
            return found

        return Batches(queue.put_many, get_many)
