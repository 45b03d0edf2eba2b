"""The standard library's primitives for processes."""

from __future__ import annotations

import asyncio
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from benches.primitives import AsyncQueue, Batches, Primitives, Queue

if TYPE_CHECKING:
    from benches.contender import Kind

DEATH = "a lock stays locked forever when its owner dies"
# What is measured is the primitive: how children are started makes no difference to it.
CONTEXT = multiprocessing.get_context("fork")


class Multiprocessing(Primitives):
    """`multiprocessing.Lock`, `multiprocessing.Queue` and so on."""

    heading = "multiprocessing"
    labels: ClassVar[dict[Kind, str]] = {
        "lock": "mp.Lock",
        "semaphore": "mp.Semaphore",
        "bounded_semaphore": "mp.BoundedSemaphore",
        "event": "mp.Event",
        "condition": "mp.Condition",
        "queue": "mp.Queue",
        "batches": "mp.Queue",
        "pipe": "mp.Pipe",
        "async_queue": "mp.Queue in a thread",
        "idle": "multiprocessing",
    }
    usage: ClassVar[dict[str, str]] = {
        "lock": "`Lock()`; semaphores: `Semaphore(n)`, `BoundedSemaphore(n)`",
        "event": "`Event()`, `Condition()`",
        "queue": "`Queue()`; by the many: a `put` and a `get` per item, as there is no other",
        "pipe": "`Pipe()`",
        "asyncio": "`await loop.run_in_executor(executor, queue.get)`, and so with `put`",
    }
    sits_out: ClassVar[dict[str, str]] = {
        "owner_death": DEATH,
        "owner_death_fallback": DEATH,
    }
    # Every one is a mapping of its own, and a process has 65,530 of them by default.
    most_locks = 20_000

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new object of the context that forks."""
        if kind == "batches":
            return one_by_one(CONTEXT.Queue())
        if kind == "async_queue":
            return in_executor(CONTEXT.Queue())
        classes: dict[Kind, Any] = {
            "lock": CONTEXT.Lock,
            "semaphore": CONTEXT.Semaphore,
            "bounded_semaphore": CONTEXT.BoundedSemaphore,
            "event": CONTEXT.Event,
            "condition": CONTEXT.Condition,
            "queue": CONTEXT.Queue,
            "pipe": CONTEXT.Pipe,
        }
        return classes[kind](*arguments)


class MultiprocessingSimpleQueue(Primitives):
    """`multiprocessing.SimpleQueue`: a pipe and two locks, no thread."""

    labels: ClassVar[dict[Kind, str]] = {"queue": "mp.SimpleQueue"}
    usage: ClassVar[dict[str, str]] = {"queue": "`SimpleQueue()`"}

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new queue."""
        return CONTEXT.SimpleQueue()


class MultiprocessingPipe(Primitives):
    """A one-way pipe in the place of a queue: enough for one producer and one consumer."""

    labels: ClassVar[dict[Kind, str]] = {"queue": "mp.Pipe, one way"}
    usage: ClassVar[dict[str, str]] = {"queue": "`Pipe(duplex=False)`, `send` and `recv`"}

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return the two ends' calls as those of a queue."""
        receiver, sender = CONTEXT.Pipe(duplex=False)
        return Queue(sender.send, receiver.recv)


class MultiprocessingLists(Primitives):
    """What users do whose items are too many: put lists of them."""

    labels: ClassVar[dict[Kind, str]] = {"batches": "mp.Queue of lists"}
    usage: ClassVar[dict[str, str]] = {"queue": "`queue.put(list)`, `queue.get()`"}

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a queue whose items are lists."""
        queue = CONTEXT.Queue()
        return Batches(queue.put, lambda _: queue.get())


def one_by_one(queue: Any) -> Batches:
    """Return the calls for many, made of those for one."""

    def put_many(items: list[Any]) -> None:
        put = queue.put
        for item in items:
            put(item)

    def get_many(most: int) -> list[Any]:
        get = queue.get
        return [get() for _ in range(most)]

    return Batches(put_many, get_many)


def in_executor(queue: Any) -> AsyncQueue:
    """Return `queue` with calls to be awaited, each run by a thread of its own direction."""
    putter, getter = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    def async_put(item: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(putter, queue.put, item)

    def async_get() -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(getter, queue.get)

    return AsyncQueue(queue.put, queue.get, async_put, async_get)
