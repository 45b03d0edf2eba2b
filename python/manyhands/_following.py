"""What comes after futures: functions of their results, and tasks that take them as arguments.

Nobody waits: whoever completes a future goes on with what comes after it.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections import deque
from concurrent.futures import InvalidStateError
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from manyhands._future import Future
from manyhands._living import Living

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manyhands._executor import Executor, Reserved
    from manyhands._options import TaskOptions

__all__ = ["follow", "submit_after"]

T = TypeVar("T")
U = TypeVar("U")

# What comes after what comes after … is done on one stack only up to here.
_DEEPEST: Final = 16


# Those that are made here; the ones that are not done are looked at after a fork.
_made: Living[Future[Any]] = Living()


def _after_fork_in_child() -> None:
    for future in _made:
        future._orphan_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Turn(threading.local):
    """What a thread that completes futures still has to go on with."""

    depth = 0

    def __init__(self) -> None:
        self.steps: deque[tuple[Callable[[Any], object], Any]] = deque()


_turn = _Turn()


def _in_turn(step: Callable[[Any], object], future: Any) -> None:
    """Call ``step(future)``; a little later if it is the end of a long chain of such calls."""
    if _turn.depth >= _DEEPEST:
        _turn.steps.append((step, future))
        return
    _turn.depth += 1
    raised: BaseException | None = None
    try:
        step(future)
    except BaseException as error:
        raised = error
    finally:
        _turn.depth -= 1
    # The outermost call goes on with what was too deep, whatever has happened.
    while not _turn.depth and _turn.steps:
        try:
            _in_turn(*_turn.steps.popleft())
        except BaseException as error:
            raised = error
    if raised is not None:
        raise raised


def follow(future: Future[T], fn: Callable[[T], U]) -> Future[U]:
    """Return the future of ``fn(result)``; see `Future.then`."""
    if not callable(fn):
        raise TypeError(f"then() needs a callable, not {type(fn).__name__}")
    following: Future[U] = Future()
    following._come_after([future])
    _made.add(following)
    step = partial(_go_on, copy_context(), fn, following)
    future.add_done_callback(partial(_in_turn, step))
    return following


def _go_on(
    context: Context, fn: Callable[[Any], U], following: Future[U], done: Future[Any]
) -> None:
    if _has_failed(following, done) or not following._begin():
        return
    try:
        result = context.run(fn, done.result())
    except BaseException as error:
        following.set_exception(error)
        if isinstance(error, KeyboardInterrupt):
            raise
    else:
        following.set_result(result)


def _has_failed(following: Future[Any], done: concurrent.futures.Future[Any]) -> bool:
    """Hand a failure or a cancellation on; say whether there was one."""
    if done.cancelled():
        following.cancel()
        return True
    error = done.exception()
    if error is None:
        return False
    _fail(following, error)
    return True


def _fail(following: Future[Any], error: BaseException) -> None:
    try:
        following.set_exception(error)
    except InvalidStateError:
        pass  # it has been cancelled in the meantime


def submit_after(
    executor: Executor,
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
        each.add_done_callback(partial(_in_turn, waiting.hear))
    return waiting.future


class _Waiting:
    """A call that waits for the futures among its arguments."""

    def __init__(
        self,
        executor: Executor,
        options: TaskOptions,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        inputs: list[concurrent.futures.Future[Any]],
    ) -> None:
        self.future: Future[Any] = Future()
        self.future._come_after(inputs)
        _made.add(self.future)
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
        if self.future.done() or _has_failed(self.future, done):
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
            _fail(self.future, error)
        finally:
            self.give_up()

    def give_up(self, _: object = None) -> None:
        """Let go of the call: it has been submitted, or never will be."""
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
