"""manyhands itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benches.primitives import AsyncQueue, Primitives

if TYPE_CHECKING:
    from benches.contender import Kind


_CLASSES: dict[Kind, str] = {
    "lock": "Lock",
    "semaphore": "Semaphore",
    "bounded_semaphore": "BoundedSemaphore",
    "event": "Event",
    "condition": "Condition",
    "queue": "Queue",
    "batches": "Queue",
    "thread_queue": "Queue",
    "pipe": "Pipe",
}


class Manyhands(Primitives):
    """`mh.Lock`, `mh.Queue` and so on, everything at its default."""

    distribution = "manyhands"
    labels: ClassVar[dict[Kind, str]] = dict.fromkeys(
        (*_CLASSES, "async_queue", "async_thread_queue", "idle"), "manyhands"
    )
    usage: ClassVar[dict[str, str]] = {
        "lock": "`mh.Lock()`; semaphores: `mh.Semaphore(n)`, `mh.BoundedSemaphore(n)`",
        "event": "`mh.Event()`, `mh.Condition()`",
        "queue": "`mh.Queue()`; by the many: `put_many(items)`, `get_many(1000)`",
        "pipe": "`mh.Pipe()`",
        "asyncio": "`await queue.async_put(x)`, `await queue.async_get()`",
    }

    def __init__(self) -> None:
        import manyhands

        self._library: Any = manyhands
        self.owner_died = manyhands.OwnerDied

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new object: the same class for threads, processes and asyncio."""
        library = self._library
        if kind in ("async_queue", "async_thread_queue"):
            queue = library.Queue()
            return AsyncQueue(queue.put, queue.get, queue.async_put, queue.async_get)
        return getattr(library, _CLASSES[kind])(*arguments)
