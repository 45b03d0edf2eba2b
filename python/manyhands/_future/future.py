"""Futures: the result of a task, to be."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, TypeVar

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Future"]

T = TypeVar("T")
U = TypeVar("U")


class Future(_native.FutureBase, concurrent.futures.Future[T]):
    """The result of a task, to be.

    It is a `concurrent.futures.Future` in every respect, and works with the standard library's
    ``wait``, ``as_completed`` and ``asyncio.wrap_future``. ``result()`` and ``exception()`` take a
    timeout in seconds and raise TimeoutError when it has passed, CancelledError when the task was
    cancelled, and otherwise what the task raised. Ctrl-C interrupts them.

    ``cancel()`` also works on a task that runs. It returns True if the task never ran and never
    will, or if it is certain to be ended: the future is then cancelled at once, and what the task
    still returns is dropped. It returns False if the task has ended, or runs and has only been
    asked to stop (a thread cannot be stopped by force); if the task then stops with
    `TaskCancelled`, the future is cancelled after all.

    Example:
        >>> with mh.ThreadPoolExecutor() as ex:
        ...     ex.submit(pow, 2, 10).result()
        1024
    """

    __module__ = "manyhands"

    # All the state is in the native half, which has set it up before this is called; a second call
    # makes the future new again, as the stdlib's does.
    def __init__(self) -> None:
        self._renew()

    def then(self, fn: Callable[[T], U]) -> Future[U]:
        """Return a new future whose result will be ``fn(result of this one)``.

        ``fn`` runs in this process, in the thread that completes this future (or here, if it is
        done), so it should be short and wait for nothing: what takes long is a task of its own,
        see ``wait_for_futures`` of `Executor.options`. It has the context variables of whoever
        calls this.

        If this future fails, the new one fails with the same exception; if this one is cancelled,
        so is the new one. Cancelling the new one leaves this one alone, which others may wait for.

        Raises:
            TypeError: `fn` cannot be called.

        Example:
            >>> with mh.ThreadPoolExecutor() as ex:
            ...     ex.submit(pow, 2, 10).then(str).result()
            '1024'
        """
        from manyhands._future.followers import follow

        if not callable(fn):
            raise TypeError(f"then() needs a callable, not {type(fn).__name__}")
        return follow(self, fn, Future())


_native.register_future(Future)
