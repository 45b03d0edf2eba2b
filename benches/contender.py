"""A contender: one library, called the way its own documentation recommends.

The benchmarks know only this interface. What a library has no call for is done the way its users
do it; what it cannot do at all stands in `sits_out` with the reason.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from benches import work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

# What belongs together: asked for with one word, shown in one table.
Group = Literal["pools", "joblib", "sync", "servers", "cluster"]
HEADINGS: dict[Group, str] = {
    "pools": "Pools",
    "joblib": "Backends of joblib",
    "sync": "Locks, events, queues",
    "servers": "Servers",
    "cluster": "Clusters",
}
# What a contender is asked to make: pools by their workers, everything else by what it is.
Kind = Literal[
    "process",
    "thread",
    "backend",
    "lock",
    "semaphore",
    "bounded_semaphore",
    "event",
    "condition",
    "queue",
    "batches",
    "thread_queue",
    "pipe",
    "async_queue",
    "async_thread_queue",
    "idle",
    "server",
    "process_server",
    "stream_server",
    "uvloop_server",
    "message_server",
    "cluster",
]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class SharedArray:
    """Where a one-dimensional float64 array lies: the memory's name, the array's length."""

    name: str
    length: int


class Contender:
    """What a library is called, how its users call it, and what it does not offer."""

    # What `pip install` calls it; None for the standard library.
    distribution: ClassVar[str | None] = None
    # What the plots call it, per kind; a kind that is absent is not offered.
    labels: ClassVar[Mapping[Kind, str]]
    # What the page calls it; where there is none, all its labels.
    heading: ClassVar[str | None] = None
    # Operation -> the call, as shown in the docs.
    usage: ClassVar[Mapping[str, str]]
    # Benchmark -> why this library is not measured in it.
    sits_out: ClassVar[Mapping[str, str]] = {}


class PoolContender(Contender, abc.ABC):
    """A pool of one library. A context manager: entering starts the pool, leaving ends it.

    Raises ImportError when constructed without the library being installed.
    """

    # What a call raises when a worker's death has made the pool unusable.
    broken: tuple[type[BaseException], ...] = ()

    def __init__(self, kind: Kind, workers: int) -> None:
        self.kind: Kind = kind
        self.workers = workers

    @abc.abstractmethod
    def start(self) -> None:
        """Construct the pool."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End the pool and its workers."""

    @abc.abstractmethod
    def launch(self, fn: Callable[[T], object], item: T) -> object:
        """Submit one call and do not wait; whoever drops the answer never hears of it."""

    @abc.abstractmethod
    def submit_all(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Submit one task per item, then collect all results in order."""

    @abc.abstractmethod
    def call(self, fn: Callable[[T], R], item: T) -> R:
        """Submit one task and wait for its result."""

    @abc.abstractmethod
    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map over very many short tasks, chunked as the library recommends."""

    def map_long(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map over tasks of some milliseconds each."""
        return self.map(fn, items)

    def shared(self, array: Array) -> tuple[Callable[[Any], float], object]:
        """Place `array` once; return the task and the argument that reach its last element.

        The default is what users of a library without an answer of its own do:
        `multiprocessing.shared_memory`, attached once per worker.
        """
        from multiprocessing.shared_memory import SharedMemory

        import numpy

        self._memory = SharedMemory(create=True, size=array.nbytes)
        there: Array = numpy.ndarray(array.shape, dtype=array.dtype, buffer=self._memory.buf)
        there[:] = array
        return work.last_of_shared, SharedArray(self._memory.name, len(array))

    def unshare(self) -> None:
        """Remove what `shared` placed."""
        memory = getattr(self, "_memory", None)
        if memory is not None:
            memory.close()
            memory.unlink()

    def call_after_death(self, fn: Callable[[T], R], item: T) -> R:
        """Get a result although a worker has died: where the pool is broken, build a new one."""
        while True:
            try:
                return self.call(fn, item)
            except self.broken:
                self.stop()
                self.start()

    def __enter__(self) -> PoolContender:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class ExecutorContender(PoolContender):
    """A library whose pools have the interface of `concurrent.futures.Executor`."""

    pool: Any

    def stop(self) -> None:
        """End the pool and its workers."""
        self.pool.shutdown(wait=True)

    def launch(self, fn: Callable[[T], object], item: T) -> object:
        """Submit one call and do not wait."""
        return self.pool.submit(fn, item)

    def submit_all(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Submit one task per item, then collect all results in order."""
        submit = self.pool.submit
        futures: list[Future[R]] = [submit(fn, item) for item in items]
        return [future.result() for future in futures]

    def call(self, fn: Callable[[T], R], item: T) -> R:
        """Submit one task and wait for its result."""
        future: Future[R] = self.pool.submit(fn, item)
        return future.result()

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map in the chunks that `multiprocessing.Pool` would cut: four per worker."""
        return list(self.pool.map(fn, items, chunksize=pool_chunk(len(items), self.workers)))

    def map_long(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map with the default chunk of one."""
        return list(self.pool.map(fn, items))


def pool_chunk(length: int, workers: int) -> int:
    """Return the length of a chunk that `multiprocessing.Pool.map` uses by default."""
    chunk, rest = divmod(length, workers * 4)
    return chunk + bool(rest)
