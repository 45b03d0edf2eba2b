"""Where event loops get their calls: a pool, as far as those know it that run in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from manyhands._coroutine.call import Call
    from manyhands._native import PythonTasks

__all__ = ["CallSource"]


class CallSource(Protocol):
    """A pool, for its event loops."""

    most: int
    prefix: str
    tasks: PythonTasks
    loop_factory: Callable[[], Any] | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    finalizer: Callable[[], object] | None
    run_plain: Callable[..., Coroutine[Any, Any, None]] | None

    def hand_out(self, loop: Any) -> Call | None:
        """Return what a loop must begin next."""

    def leave(self, loop: Any, call: Call, how: str) -> None:
        """Note that a loop runs a call no more, and why."""

    def queue_again(self, call: Call) -> None:
        """Put a call that has failed back."""

    def forget(self, call: Call) -> None:
        """Drop a call whose next attempt will never begin."""

    def break_down(self, error: BaseException) -> None:
        """Fail what waits."""

    def lose(self, loop: Any, error: BaseException) -> None:
        """Fail what a loop ran that has ended by itself."""

    def complain(self, text: str, error: BaseException) -> None:
        """Log what no future can tell."""
