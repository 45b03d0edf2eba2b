"""The standard library's primitives for threads."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from benches.contenders.sync.multiprocessing import in_executor
from benches.primitives import Primitives

if TYPE_CHECKING:
    from benches.contender import Kind

INSIDE = "works inside one process only"


class Threading(Primitives):
    """`threading.Lock`, `queue.Queue` and so on."""

    heading = "threading and queue"
    labels: ClassVar[dict[Kind, str]] = {
        "lock": "threading.Lock",
        "semaphore": "threading.Semaphore",
        "bounded_semaphore": "threading.BoundedSemaphore",
        "thread_queue": "queue.Queue",
        "async_thread_queue": "queue.Queue in a thread",
        "idle": "threading",
    }
    usage: ClassVar[dict[str, str]] = {
        "lock": "`Lock()`; semaphores: `Semaphore(n)`, `BoundedSemaphore(n)`",
        "event": "`Event()`, `Condition()`, measured idle only",
        "queue": "`queue.Queue()`",
        "asyncio": "`await loop.run_in_executor(executor, queue.get)`, and so with `put`",
    }
    sits_out: ClassVar[dict[str, str]] = dict.fromkeys(
        ("lock_contended", "owner_death", "owner_death_fallback"), INSIDE
    )

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new object."""
        if kind == "async_thread_queue":
            return in_executor(queue.Queue())
        classes: dict[Kind, Any] = {
            "lock": threading.Lock,
            "semaphore": threading.Semaphore,
            "bounded_semaphore": threading.BoundedSemaphore,
            "event": threading.Event,
            "condition": threading.Condition,
            "queue": queue.Queue,
            "thread_queue": queue.Queue,
        }
        return classes[kind](*arguments)


class SimpleQueue(Primitives):
    """`queue.SimpleQueue`, written in C."""

    labels: ClassVar[dict[Kind, str]] = {"thread_queue": "queue.SimpleQueue"}
    usage: ClassVar[dict[str, str]] = {"queue": "`queue.SimpleQueue()`"}

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new queue."""
        return queue.SimpleQueue()
