"""How coroutines wait for what happens in other threads and processes.

Each event loop that waits has one *wake socket*, a datagram socket in its selector. Releasing a
lock or filling a queue writes to the sockets of its waiters; the packet says for what. No
thread is started, and a loop that waits for nothing costs nothing. Nor does asyncio, which takes
longer to import than all of this package, where nothing is awaited: only coroutines import it.
"""

from __future__ import annotations

import math
import os
from threading import RLock
from weakref import WeakKeyDictionary

from manyhands import _native

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable
    from typing import Protocol, TypeVar

    T = TypeVar("T")

    class Enlisted(Protocol):
        """A place on the list of those who wait for something."""

        @property
        def call_number(self) -> int:
            """What a wake-up for this waiter says."""

        def renew(self) -> None:
            """Be among those to be called again, after a call; before each look."""

        def leave(self, satisfied: bool) -> None:
            """Give up the place; more than once does nothing.

            A waiter that leaves unsatisfied passes on a wake-up that it may have got for another.
            """


__all__ = ["attempt_until", "socket_number"]

# Seconds. A wake-up is lost if the process that should pass it on is killed; then this finds out.
_BACKSTOP = 0.2


class _LoopSocket:
    """The wake socket of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.socket = _native.WakeSocket()
        # By what a wake-up says.
        self.waiting: dict[int, asyncio.Future[None]] = {}
        self._stay = self._until_shutdown(loop)

    async def open(self) -> None:
        await anext(self._stay)

    async def _until_shutdown(self, loop: asyncio.AbstractEventLoop) -> AsyncIterator[None]:
        # An event loop closes its asynchronous generators before it ends; nothing else tells us.
        loop.add_reader(self.socket.fileno(), self._answer)
        try:
            yield
        finally:
            # A forked child has only copies: what it takes out of its selector, its parent loses.
            if not self.socket.is_stale():
                loop.remove_reader(self.socket.fileno())
                with _sockets_lock:
                    _loop_sockets.pop(loop, None)
                self.socket.close()

    def _answer(self) -> None:
        wakes, more = self.socket.drain()
        # In a crowd some wake-ups are lost: then everybody looks.
        for waiter in self.waiting.values() if more else map(self.waiting.get, wakes):
            if waiter is not None:
                _wake(waiter)


_loop_sockets: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopSocket] = WeakKeyDictionary()
# Event loops of several threads begin and end at the same time. Reentrant, because a collection of
# garbage may run any code while it is held.
_sockets_lock = RLock()


def _renew_lock() -> None:
    global _sockets_lock
    _sockets_lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)


def _close_left_sockets() -> None:
    """Close the sockets of loops that were closed without being shut down."""
    with _sockets_lock:
        left = [
            (loop, loop_socket) for loop, loop_socket in _loop_sockets.items() if loop.is_closed()
        ]
        for loop, _ in left:
            _loop_sockets.pop(loop, None)
    for _, loop_socket in left:
        loop_socket.socket.close()


async def _socket_of(loop: asyncio.AbstractEventLoop) -> _LoopSocket:
    loop_socket = _loop_sockets.get(loop)
    if loop_socket is None or loop_socket.socket.is_stale():
        _close_left_sockets()
        loop_socket = _LoopSocket(loop)
        with _sockets_lock:
            _loop_sockets[loop] = loop_socket
        await loop_socket.open()
    return loop_socket


async def socket_number() -> int:
    """Return the number of the running event loop's wake socket."""
    import asyncio

    loop_socket = await _socket_of(asyncio.get_running_loop())
    return loop_socket.socket.number


async def attempt_until(
    attempt: Callable[[], T | None],
    enlist: Callable[[int], Enlisted],
    timeout: float | None = None,
) -> T | None:
    """Call `attempt` until it returns something else than None, waiting in between.

    Args:
        attempt: does what is wanted if that is possible now; never waits.
        enlist: takes a place among those who wait, given the number of the wake socket.
        timeout: seconds, or None for no limit.

    Returns:
        what `attempt` returned; None if the time was up first.

    Raises:
        ValueError: `timeout` is not a number.

    If the task is cancelled after it was chosen to go on, another is chosen.
    """
    import asyncio

    if timeout is not None and math.isnan(timeout):
        raise ValueError("Invalid value NaN (not a number)")
    result = attempt()
    if result is not None or (timeout is not None and timeout <= 0):
        return result
    loop = asyncio.get_running_loop()
    loop_socket = await _socket_of(loop)
    deadline = math.inf if timeout is None else loop.time() + timeout
    place = enlist(loop_socket.socket.number)
    try:
        while True:
            loop_socket.waiting[place.call_number] = waiter = loop.create_future()
            try:
                # In this order: what happens after the look is sure to call.
                place.renew()
                result = attempt()
                left = deadline - loop.time()
                if result is not None or left <= 0:
                    return result
                timer = loop.call_later(min(left, _BACKSTOP), _wake, waiter)
                try:
                    await waiter
                finally:
                    timer.cancel()
            finally:
                del loop_socket.waiting[place.call_number]
    finally:
        place.leave(result is not None)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
