"""Tasks that take futures as arguments.

Nobody waits: whoever completes the last of the futures submits the task.
"""

from __future__ import annotations

import concurrent.futures
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from manyhands._future.followers import fail, followers, has_failed, in_turn
from manyhands._future.future import Future

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manyhands._task.options import TaskOptions
    from manyhands._task.target import Reserved, Target

__all__ = ["submit_after"]

T = TypeVar("T")


def submit_after(
    executor: Target,
    options: TaskOptions,
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Future[T]:
    """Submit a call once the futures among its arguments are done; return its future at once."""
    inputs = list(dict.fromkeys(_futures_among(args, kwargs)))
    if not inputs:
        return executor._submit(options, fn, args, kwargs)
    waiting = _Waiting(executor, options, (fn, args, kwargs), inputs)
    waiting.future.add_done_callback(waiting.give_up)
    for each in inputs:
        each.add_done_callback(partial(in_turn, waiting.hear))
    return waiting.future


class _Waiting:
    """A call that waits for the futures among its arguments."""

    def __init__(
        self,
        executor: Target,
        options: TaskOptions,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        inputs: list[concurrent.futures.Future[Any]],
    ) -> None:
        self.future: Future[Any] = Future()
        self.future._come_after(inputs)
        followers.add(self.future)
        self._executor = executor
        self._place: Reserved | None = executor._reserve()
        self._options = options
        self._call: Any = call
        self._context = copy_context()
        self._missing = len(inputs)
        self._lock = threading.RLock()
        executor._announced().add(self.future)

    def hear(self, done: concurrent.futures.Future[Any]) -> None:
        """Note that one of the futures is done; submit the call if it was the last."""
        if self.future.done() or has_failed(self.future, done):
            return
        with self._lock:
            self._missing -= 1
            place, call = self._place, self._call
            if self._missing or place is None:
                return
        try:
            fn, args, kwargs = call
            args = tuple(_filled(value) for value in args)
            kwargs = {name: _filled(value) for name, value in kwargs.items()}
            # The task gets the context variables of whoever submitted it, not of this thread.
            self._context.run(place._submit, self._options, fn, args, kwargs, self.future)
        except BaseException as error:
            fail(self.future, error)
        finally:
            self.give_up()

    def give_up(self, _: object = None) -> None:
        """Release the call: it has been submitted, or never will be."""
        with self._lock:
            place, self._place, self._call = self._place, None, None
        if place is not None:
            self._executor._announced().discard(self.future)
            place._give_back()


def _futures_among(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[concurrent.futures.Future[Any]]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, concurrent.futures.Future):
            yield value
        elif type(value) in (list, tuple, dict):
            held = value.values() if type(value) is dict else value
            yield from (each for each in held if isinstance(each, concurrent.futures.Future))


def _filled(value: Any) -> Any:
    """Return an argument with results in the places of futures."""
    if type(value) is dict:
        return {key: _result(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_result, value))
    return _result(value)


def _result(value: Any) -> Any:
    return value.result() if isinstance(value, concurrent.futures.Future) else value
