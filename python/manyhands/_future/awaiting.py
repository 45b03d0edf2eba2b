"""Awaiting futures: one eventfd per event loop instead of one wake-up per task.

Whoever completes a future appends it to the loop's list and rings the eventfd unless it is ringing
already; the loop then delivers everything that has come together in one go.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import CancelledError, Future
from functools import partial
from threading import RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["completion", "outcome", "until_done"]

T = TypeVar("T")


class _Bridge:
    """Carries completed futures into one event loop.

    It holds no reference to its loop, so that both can be collected.
    """

    _fd = -1

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._completed: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        # True from the ringing until the loop has begun to deliver.
        self._ringing = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.add_reader(self._fd, self._deliver)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def done(self, waiter: asyncio.Future[Any], future: Future[Any]) -> None:
        """Note that `future` is done. Called in the thread that completed it."""
        # Nobody awaits it any more. A loop that has ended delivers nothing, and would be kept here.
        if waiter.done() or waiter.get_loop().is_closed():
            return
        self._completed.append((waiter, future))
        # `_deliver` clears the flag before it looks at the list: either it sees this entry, or
        # this sees the flag cleared.
        if not self._ringing:
            self._ringing = True
            os.eventfd_write(self._fd, 1)

    def _deliver(self) -> None:
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass
        self._ringing = False
        while self._completed:
            waiter, future = self._completed.popleft()
            if not waiter.done():
                _copy(future, waiter)


def _copy(future: Future[Any], waiter: asyncio.Future[Any]) -> None:
    if future.cancelled():
        waiter.cancel()
        return
    error = future.exception()
    if error is None:
        waiter.set_result(future.result())
    elif isinstance(error, StopIteration):
        # asyncio refuses it, for it would end the awaiting coroutine in silence.
        replaced = RuntimeError("the task raised StopIteration")
        replaced.__cause__ = error
        waiter.set_exception(replaced)
    else:
        waiter.set_exception(error)


_bridges: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bridge] = WeakKeyDictionary()
_bridges_lock = RLock()


def _forget_bridges() -> None:
    # A forked child shares the parent's eventfds; its loops need their own.
    global _bridges, _bridges_lock
    _bridges = WeakKeyDictionary()
    _bridges_lock = RLock()


os.register_at_fork(after_in_child=_forget_bridges)


def _bridge_of(loop: asyncio.AbstractEventLoop) -> _Bridge:
    bridge = _bridges.get(loop)
    if bridge is None:
        with _bridges_lock:
            bridge = _bridges.get(loop)
            if bridge is None:
                bridge = _bridges[loop] = _Bridge(loop)
    return bridge


def _waiter(future: Future[T]) -> asyncio.Future[T]:
    """Return what the running event loop completes once `future` is done."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(partial(_bridge_of(loop).done, waiter))
    return waiter


async def completion(future: Future[T]) -> T:
    """Await the result of `future`; cancelling the awaiting task cancels `future`.

    Raises:
        asyncio.CancelledError: the future or the awaiting task was cancelled.
        Exception: what the call raised.
    """
    try:
        return future.result() if future.done() else await _waiter(future)
    except CancelledError:
        raise asyncio.CancelledError from None
    except asyncio.CancelledError:
        future.cancel()
        raise
    finally:
        # A traceback kept by the caller must not keep the result alive through this frame.
        del future


async def outcome(future: Future[T]) -> T:
    """As `completion`, but `future` goes on if the awaiting task is cancelled."""
    try:
        return future.result() if future.done() else await _waiter(future)
    except CancelledError:
        raise asyncio.CancelledError from None
    finally:
        del future


async def until_done(future: Future[Any], timeout: float | None) -> None:
    """Wait until `future` is done, whatever came of it, or `timeout` seconds have passed."""
    waiter = _waiter(future)
    try:
        await asyncio.wait((waiter,), timeout=timeout)
    finally:
        if not waiter.cancel() and not waiter.cancelled():
            waiter.exception()  # asyncio complains of those that nobody looks at
        del future, waiter
