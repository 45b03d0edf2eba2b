"""The barrier."""

from __future__ import annotations

import threading

from manyhands import _native
from manyhands._interpreter.public import public
from manyhands._sync.primitive import Primitive, check_made_with
from manyhands._sync.wake_socket import attempt_until

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any
else:
    import collections.abc

    # For `typing.get_type_hints`.
    Any, Callable = object, collections.abc.Callable

__all__ = ["Barrier"]


@public
class Barrier(_native.BarrierBase, Primitive):
    """A meeting point for threads, processes and coroutines: nobody goes on until all have arrived.

    A party that dies after it has arrived breaks the barrier for the others, as a timeout does.

    Args:
        parties: how many have to arrive, 1 or more; may be left out when opening one by its name.
        action: called by one of them when all have arrived, before anybody goes on; if it raises,
            the barrier is broken.
        timeout: seconds for each `wait` that is given none; None for no limit.
        name: makes it one barrier for all processes of this user that give the same name.

    Raises:
        TypeError: neither `parties` nor a name.
        FileNotFoundError: no `parties`, and there is no barrier of that name.
        ValueError: fewer than 1 party or more than 65536, or another number than the one that bears
            this name has; or what has that name is of another kind.

    Example:
        >>> barrier = mh.Barrier(2)
        >>> with mh.ThreadPoolExecutor(1) as other:
        ...     future = other.submit(barrier.wait)
        ...     sorted([barrier.wait(), future.result()])
        [0, 1]
    """

    __slots__ = ("__weakref__", "_action", "_timeout")

    def __init__(
        self,
        parties: int | None = None,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
        _address: tuple[Any, ...] | None = None,
    ) -> None:
        check_made_with(self, "parties", parties, self.parties)
        check_made_with(self, "name", name, self.name)
        self._set_up(self.parties, action, timeout)

    def _set_up(
        self,
        parties: int,  # noqa: ARG002 - the native half has it
        action: Callable[[], object] | None,
        timeout: float | None,
    ) -> None:
        self._action = action
        self._timeout = timeout

    def _keywords(self) -> dict[str, Any]:
        return {"parties": self.parties, "action": self._action, "timeout": self._timeout}

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others.

        Args:
            timeout: seconds, or None for the barrier's own limit.

        Returns:
            a number from 0 to parties - 1, another one for each.

        Raises:
            threading.BrokenBarrierError: the barrier is broken: by `abort`, a timeout, a failed
                action, the death of a process that had arrived; or it was reset in the meantime.
        """
        return self._wait(self._timeout if timeout is None else timeout, self._action)

    async def async_wait(self, timeout: float | None = None) -> int:
        """Wait for the others without blocking the event loop; otherwise as `wait`.

        A task that is cancelled takes back its arrival; the barrier is as if it had not come.
        """
        import asyncio

        token: _native.BarrierArrival | None = None

        def attempt() -> int | None:
            nonlocal token
            if token is None:
                found, token = self._arrive()
                if token is not None and found == "acts":
                    return self._go_on(token)
            return None if token is None else self._outcome(token)

        try:
            index = await attempt_until(
                attempt, self._enlist, self._timeout if timeout is None else timeout
            )
            if index is None and token is not None and not self._expire(token):
                # All have arrived at the last moment.
                index = await attempt_until(attempt, self._enlist)
        except (asyncio.CancelledError, GeneratorExit):
            if token is not None:
                self._withdraw(token)
            raise
        if index is None:
            raise threading.BrokenBarrierError
        return index

    def _go_on(self, token: _native.BarrierArrival) -> int:
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            self._fail(token)
            raise
        return self._pass(token)
