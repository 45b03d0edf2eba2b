"""One library's locks, events and queues, called the way its own documentation recommends."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from benches.contender import Contender, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Queue:
    """The two calls of a queue whose library names them differently."""

    put: Callable[[Any], object]
    get: Callable[[], Any]


@dataclass(frozen=True)
class Batches:
    """A queue by the many: `get_many` returns at least one item and at most as many as asked."""

    put_many: Callable[[list[Any]], object]
    get_many: Callable[[int], list[Any]]


@dataclass(frozen=True)
class AsyncQueue:
    """A queue with both faces: blocking calls, and calls to be awaited."""

    put: Callable[[Any], object]
    get: Callable[[], Any]
    async_put: Callable[[Any], Awaitable[object]]
    async_get: Callable[[], Awaitable[Any]]


class Primitives(Contender, abc.ABC):
    """Makes the objects that are measured.

    Raises ImportError when constructed without the library being installed.
    """

    # So many locks may exist at once.
    most_locks: ClassVar[int] = 100_000
    # What `acquire` raises, with the lock held, when its owner has died.
    owner_died: type[BaseException] | None = None

    @abc.abstractmethod
    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new object: the library's own where it has the calls, so that nothing is added.

        Locks and semaphores have `acquire` and `release` and are context managers; queues are like
        `Queue`, `Batches` or `AsyncQueue`; a pipe is a pair of connections. Processes inherit it.
        """
