"""Queues for threads, processes and coroutines, all at the same time on the same object."""

from __future__ import annotations

from queue import Empty, Full

from manyhands import _native
from manyhands._interpreter.public import public
from manyhands._pickle.keep import keep_for_child
from manyhands._sync.primitive import Unsaid
from manyhands._sync.wake_socket import attempt_until

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from typing import Any, ClassVar, Self

    from typing_extensions import TypeVar

    from manyhands._errors.base import OwnerDied

    Item = TypeVar("Item", default=Any)
else:
    Item = object  # what is in brackets below says something to type checkers only

__all__ = ["JoinableQueue", "LifoQueue", "PriorityQueue", "Queue", "SimpleQueue"]

_NOTHING = object()
_ANY_NUMBER = Unsaid(0)


class _AnyQueue(_native.QueueBase[Item]):
    """What all queues have in common."""

    # Which queue the native half makes.
    _kind: ClassVar[str]

    def __iter__(self) -> Iterator[Item]:
        from manyhands._errors.shut_down import ShutDown

        # A generator: if an item raises StopIteration when it is unpickled, that is not the end.
        try:
            while True:
                yield self.get()
        except ShutDown:
            # An item may raise it, too, when it is unpickled.
            if not self.is_shutdown:
                raise

    # `item in queue` would otherwise take out what it looks at, and wait for more.
    __contains__ = None

    def __repr__(self) -> str:
        try:
            facts = [f"name={self.name!r}"] if self.name else []
            facts += [f"size={self.qsize()}", f"maxsize={self.maxsize}"]
        except RuntimeError:
            facts = ["not open"]
        return f"<manyhands.{type(self).__name__} {' '.join(facts)} at {id(self):#x}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        keep_for_child(self)
        return (_open, (type(self), self._address()), self.__dict__ or None)

    def empty(self) -> bool:
        """Return whether there is no item at this moment.

        Raises:
            OSError: `close` was called, and there are items; as `multiprocessing.Queue`.
        """
        is_empty = self.qsize() == 0
        if self._is_closed and not is_empty:
            raise OSError(f"Queue {self!r} is closed")
        return is_empty

    # ------------------------------------------------------------------ coroutines

    async def async_get(self, timeout: float | None = None) -> Item:
        """Remove and return an item, without blocking the event loop.

        Args:
            timeout: seconds to wait; None means no limit.

        Raises:
            queue.Empty: there was no item in time.
            queue.ShutDown: the queue has been shut down and there is nothing left.
            ValueError: `close` was called.

        Example:
            >>> import asyncio
            >>> queue = mh.Queue()
            >>> queue.put("ready")
            >>> asyncio.run(queue.async_get())
            'ready'
        """
        item: Item = self._get_or(_NOTHING)
        if item is not _NOTHING:
            return item
        got = await attempt_until(self._attempt_get, self._enlist_for_items, timeout)
        if got is None:
            raise Empty
        return got[0]

    def _attempt_get(self) -> tuple[Item] | None:
        item: Item = self._get_or(_NOTHING)
        return None if item is _NOTHING else (item,)

    async def async_get_many(self, count: int, timeout: float | None = None) -> list[Item]:
        """As `get_many`, without blocking the event loop."""

        def attempt() -> list[Item] | None:
            return self._get_many_or_none(count)

        got = await attempt_until(attempt, self._enlist_for_items, timeout)
        if got is None:
            raise Empty
        return got

    async def async_put(self, item: Item, timeout: float | None = None) -> None:
        """Put an item, without blocking the event loop.

        Args:
            item: what to put.
            timeout: seconds to wait for room; None means no limit.

        Raises:
            queue.Full: there was no room in time.
            queue.ShutDown: the queue has been shut down.
            ValueError: `close` was called.

        Example:
            >>> import asyncio
            >>> queue = mh.Queue(maxsize=1)
            >>> asyncio.run(queue.async_put("ready"))
            >>> queue.full()
            True
        """
        # Pickled once and now, however often it has to be tried.
        packed = self._put_or_pack(item)
        if packed is None:
            return

        def attempt() -> bool | None:
            return self._put_packed(packed) or None

        if await attempt_until(attempt, self._enlist_for_room, timeout) is None:
            raise Full

    async def async_put_many(self, items: Iterable[Item], timeout: float | None = None) -> None:
        """Put all items in order, without blocking the event loop.

        Args:
            items: what to put.
            timeout: seconds for all; None means no limit.

        Raises:
            Exception: as `async_put`, and what the iterable raises. The items before have been put:
                the error's attribute ``items_put`` is their number, also that of a CancelledError.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        put = 0
        try:
            for item in items:
                await self.async_put(item, None if end is None else max(0.0, end - loop.time()))
                put += 1
        except BaseException as error:
            # Not by assignment, which the class of the error may refuse.
            error.__dict__["items_put"] = put
            raise

    async def __aiter__(self) -> AsyncIterator[Item]:
        from manyhands._errors.shut_down import ShutDown

        try:
            while True:
                yield await self.async_get()
        except ShutDown:
            # An item may raise it, too, when it is unpickled.
            if not self.is_shutdown:
                raise

    # ------------------------------------------------------------------ as multiprocessing's

    def join_thread(self) -> None:
        """Do nothing: there is no thread, an item is in the queue when `put` returns.

        Raises:
            AssertionError: `close` has not been called.
        """
        if not self._is_closed:
            raise AssertionError(f"Queue {self!r} not closed")

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no thread to be waited for."""


def _open(kind: type[_AnyQueue], address: tuple[Any, ...]) -> _AnyQueue:
    queue = kind.__new__(kind)
    queue._attach(kind._kind, address)
    return queue


class _Sized(_AnyQueue[Item]):
    """Queues that can be full, and whose items can be joined."""

    # What the native half knows as no limit; of an object that has no such thing, None.
    _below_zero: int | None = None

    def __init__(
        self, maxsize: int = _ANY_NUMBER, *, name: str | None = None, memory: int | None = None
    ) -> None:
        if maxsize is None:
            raise TypeError("maxsize must be an integer, not None: 0 is no limit")
        said = None if type(maxsize) is Unsaid else maxsize
        self._open(self._kind, said, name, memory)
        if maxsize.__index__() < 0:
            self._below_zero = maxsize.__index__()

    @property
    def maxsize(self) -> int:
        """The most items it holds; 0 or less, as it was given, for any number."""
        given = self._below_zero
        return super().maxsize if given is None else given

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put for which `task_done` was not called yet."""
        return self.statistics()["unfinished"] or 0

    def join(self) -> None:
        """Wait until `task_done` was called for every item that was put.

        Raises:
            OwnerDied: a process died with items that it had taken and not finished. Either put them
                again; or call `recover`, and they count as done.
        """
        if _native.wait_switched(self.async_join) is not None:
            return
        lost = self._join()
        if lost is not None:
            raise self._unfinished(*lost)

    async def async_join(self, timeout: float | None = None) -> bool:
        """As `join`, without blocking the event loop.

        Args:
            timeout: seconds to wait; None means no limit.

        Returns:
            whether all is done; False if the time was up first.
        """

        def attempt() -> tuple[tuple[int, int] | None] | None:
            return self._join_or_none()

        done = await attempt_until(attempt, self._enlist_for_join, timeout)
        if done is None:
            return False
        if done[0] is not None:
            raise self._unfinished(*done[0])
        return True

    def _unfinished(self, pid: int, count: int) -> OwnerDied:
        from manyhands._errors.base import OwnerDied

        items = "1 item" if count == 1 else f"{count} items"
        return OwnerDied(
            f"process {pid} died with {items} of {self!r} that it had taken and not finished; "
            "put them again if you can, and call recover() to count them as done",
            pid,
        )


@public
class Queue(_Sized[Item]):
    """A queue: first in, first out.

    It has the interface of `queue.Queue` and `multiprocessing.Queue`, for threads, processes and
    coroutines. Items are pickled in the caller, so that an error shows where it is made; once `put`
    has returned, the item is in the queue, whatever becomes of the process. Items that a process
    was about to put or take when it was killed are put or taken as a whole or not at all.

    It is shared with processes of every start method and with tasks as an argument, with forked
    ones by inheritance, and with all processes of this user by name.

    ``for item in queue`` and ``async for item in queue`` take items until the queue has been shut
    down and is empty. In annotations ``Queue[int]`` is a queue of ints.

    Args:
        maxsize: the most items it holds; 0 or less means any number. May be left out when
            opening a queue by its name.
        name: makes it one queue for all processes of this user that give the same name. It is gone
            when none of them has it any more.
        memory: the most bytes of shared memory that items may take up; by default half of what this
            process may use, or 4 GiB if that is less. Whoever makes a queue by its name decides:
            who opens it gets it as it is.

    Raises:
        ValueError: what has that name is no such queue, or has another ``maxsize``; the name is
            empty; ``memory`` is less than 128 KiB.
        MemoryError, OSError: there is no shared memory, or no descriptor.

    Example:
        >>> queue = mh.Queue()
        >>> queue.put({"work": 1})
        >>> queue.get()
        {'work': 1}
    """

    _kind = "Queue"


@public
class JoinableQueue(Queue[Item]):
    """The same as `Queue`, under the name that `multiprocessing` has for it.

    Example:
        >>> queue = mh.JoinableQueue()
        >>> queue.put("work")
        >>> queue.get()
        'work'
        >>> queue.task_done()
        >>> queue.join()
    """

    _kind = "JoinableQueue"


@public
class LifoQueue(_Sized[Item]):
    """A queue that gives the youngest item first. Arguments and methods are those of `Queue`.

    Example:
        >>> queue = mh.LifoQueue()
        >>> queue.put_many("abc")
        >>> queue.get()
        'c'
    """

    _kind = "LifoQueue"


@public
class PriorityQueue(_Sized[Item]):
    """A queue that gives the item with the smallest number first, among equals the oldest.

    Items are pairs ``(number, item)``; numbers, also those of other libraries, are compared as ints
    or floats, and items themselves are not.
    Arguments and methods are those of `Queue`.

    Example:
        >>> queue = mh.PriorityQueue()
        >>> queue.put((2, "later"))
        >>> queue.put((1, "first"))
        >>> queue.get()
        (1, 'first')
    """

    _kind = "PriorityQueue"


@public
class SimpleQueue(_AnyQueue[Item]):
    """A queue of any number of items, without `task_done` and `join`.

    Example:
        >>> queue = mh.SimpleQueue()
        >>> queue.put("item")
        >>> queue.get()
        'item'
    """

    _kind = "SimpleQueue"

    def __init__(self, *, name: str | None = None, memory: int | None = None) -> None:
        self._open(self._kind, None, name, memory)

    def empty(self) -> bool:
        """Return whether there is no item at this moment.

        Raises:
            OSError: `close` was called; as `multiprocessing.SimpleQueue`.
        """
        if self._is_closed:
            raise OSError(f"Queue {self!r} is closed")
        return super().empty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
