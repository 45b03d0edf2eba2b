"""One call of a function whose coroutine an event loop runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands._errors.failures import task_timeout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from manyhands._future.future import Future
    from manyhands._task.options import TaskOptions

__all__ = ["Call"]


class Call:
    """A task of a pool of event loops.

    Attributes:
        token: the pool's number for it.
        future: where its outcome goes.
        context: the context variables that it has.
        loop: the loop that runs it, once one does.
        task: asyncio's task for this attempt, if it is not over.
        timer: what ends this attempt, or begins the next.
        attempt: the number of this attempt, from 0.
        began: when this attempt began.
        is_withdrawn: whether it was cancelled before it began.
        is_asked: whether it was cancelled while it ran.
        is_late: whether this attempt has run out of time.
        is_put_off: whether it waits for the time of its next attempt.
    """

    # Most calls keep these: making one takes less so.
    loop: Any = None
    task: asyncio.Task[Any] | None = None
    timer: asyncio.TimerHandle | None = None
    pauses: Sequence[float] = ()
    attempt = 0
    began = 0.0
    is_withdrawn = False
    is_asked = False
    is_late = False
    is_put_off = False

    def __init__(
        self,
        token: int,
        future: Future[Any],
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
    ) -> None:
        self.token = token
        self.future = future
        self.options = options
        self.fn: Any = fn
        self.args = args
        self.kwargs = kwargs
        self.context: Any = context
        if options.retries:
            self.pauses = options.pauses()

    def name(self) -> str:
        """Return what the task is called."""
        if self.options.name is not None:
            return self.options.name
        name = getattr(self.fn, "__qualname__", None)
        return name if isinstance(name, str) else type(self.fn).__qualname__

    def is_under_way(self) -> bool:
        """Say whether it runs, and does not wait for its first or next attempt."""
        return self.loop is not None and not self.is_put_off

    def let_go(self) -> None:
        """Forget what only a run of it needs."""
        self.fn = self.context = self.task = self.timer = None
        self.args, self.kwargs = (), {}

    def withdraw(self) -> None:
        """Note that it will never begin."""
        self.is_withdrawn = True
        self.let_go()

    def disarm(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def overdue(self) -> BaseException:
        """Return the error of an attempt that ran out of time."""
        assert self.options.timeout is not None
        return task_timeout(self.name(), self.options.timeout)

    def pause(self, error: BaseException) -> float | None:
        """Return for how many seconds to wait before the next attempt; None if there is none."""
        options = self.options
        if self.attempt >= options.retries or not isinstance(error, options.retry_on):
            return None
        if not self.pauses:
            return 0.0
        return self.pauses[min(self.attempt, len(self.pauses) - 1)]
