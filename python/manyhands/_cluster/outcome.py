"""One run of a task in a worker: from the bytes of its message to the bytes of its answer."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from manyhands._cluster.attempt import Retry
from manyhands._cluster.json_values import dumps, loads
from manyhands._cluster.task import Task, registry
from manyhands._errors.base import ManyhandsError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SoftTimeLimitExceeded", "failure", "run", "run_async"]

# What the native worker takes: a word, and what belongs to it.
Outcome = tuple[Any, ...]

# The frames that every traceback would begin with.
_OURS: Final = frozenset({__file__, Task.call.__code__.co_filename})


class SoftTimeLimitExceeded(ManyhandsError, TimeoutError):
    """A task has run for longer than its ``soft_time_limit``, and may tidy up."""

    __module__ = "manyhands"


def run(
    name: str, content: bytes, serializer: str, limit: float | None, about: tuple[Any, ...]
) -> Outcome:
    """Run a task, in a process or a thread.

    Args:
        name: the task's; it must be registered.
        content: arguments, keyword arguments and maybe more, encoded.
        serializer: how: ``"json"`` or ``"pickle"``.
        limit: seconds after which it gets `SoftTimeLimitExceeded`; None for none.
        about: the fields of `Attempt` from the id on that its message knows.

    Returns:
        ``("success", result)``, ``("failure", type, arguments, module, traceback)`` or ``("retry",
        when, …the same four)``; results and arguments in JSON, moments in seconds since 1970. Of
        what was pickled, what follows the task comes last, in JSON.
    """
    try:
        call = _Call(name, content, serializer, about)
    except Exception as error:
        return failure(error)
    try:
        with _limited(limit):
            result = call()
            if call.task.is_async:
                result = asyncio.run(result)
        return "success", dumps(result), *call.follow_ups
    except BaseException as error:
        return call.judge(error)


async def run_async(
    name: str, content: bytes, serializer: str, limit: float | None, about: tuple[Any, ...]
) -> Outcome:
    """Run a task in an event loop; as `run`. A plain function is called in a thread."""
    try:
        call = _Call(name, content, serializer, about)
    except Exception as error:
        return failure(error)
    try:
        async with asyncio.timeout(limit) as scope:
            if call.task.is_async:
                result = await call()
            else:
                result, raised = await asyncio.to_thread(call.settled)
                if raised is not None:
                    raise raised
        return "success", dumps(result), *call.follow_ups
    except BaseException as error:
        # A task may also raise CancelledError itself, as that of something it has awaited.
        this = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and this is not None and this.cancelling():
            raise
        if isinstance(error, TimeoutError) and scope.expired():
            return call.judge(SoftTimeLimitExceeded(f"it has run for longer than {limit} s"))
        return call.judge(error)


def failure(error: BaseException) -> Outcome:
    """Return the outcome of a task that raised, as Celery describes exceptions."""
    kind = type(error)
    words = kind.__qualname__, _arguments(error), str(kind.__module__), _text(error)
    # The names of files that are no UTF-8 have surrogates, and texts of errors name files.
    return "failure", *(text.encode(errors="backslashreplace").decode() for text in words)


class _Call:
    """A task with its arguments.

    Raises:
        Exception: they cannot be read; pickle may raise anything.
    """

    def __init__(self, name: str, content: bytes, serializer: str, about: tuple[Any, ...]) -> None:
        self.task = registry[name]
        self.attempt = self.task.attempt(*about)
        self.follow_ups: tuple[str, ...] = ()
        if serializer == "json":
            self.args, self.kwargs = loads(content)
        else:
            import pickle

            self.args, self.kwargs, embed = pickle.loads(content)
            self.follow_ups = (dumps(embed),)

    def __call__(self) -> Any:
        """Call the function; of an ``async def`` one return the coroutine."""
        return self.task.call(self.attempt, self.args, self.kwargs)

    def settled(self) -> tuple[Any, BaseException | None]:
        """Call the function; return what it returns, or what it raises.

        A future of asyncio cannot have StopIteration as its exception, and never ends with it.
        """
        try:
            return self(), None
        except BaseException as error:
            return None, error

    def judge(self, error: BaseException) -> Outcome:
        """Return the outcome of what it has raised."""
        if isinstance(error, self.task.settings.retry_on):
            try:
                self.attempt.retry(error)
            except Exception as verdict:
                error = verdict
        if not isinstance(error, Retry):
            return *failure(error), *self.follow_ups
        when = error.when
        at = when.timestamp() if isinstance(when, datetime) else time.time() + when
        return "retry", at, *failure(error.cause or error)[1:]


def _arguments(error: BaseException) -> str:
    try:
        return dumps(error.args)
    except (TypeError, ValueError, RecursionError):
        return dumps([each if isinstance(each, str) else repr(each) for each in error.args])


def _text(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


@contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Raise `SoftTimeLimitExceeded` in a block that takes longer, where signals can."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: object) -> None:
        raise SoftTimeLimitExceeded(f"it has run for longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
