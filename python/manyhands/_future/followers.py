"""Futures that come after others.

Nobody waits: whoever completes a future goes on with what comes after it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import InvalidStateError
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from manyhands._interpreter.living import Living
from manyhands._native import FutureBase

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable

__all__ = ["fail", "follow", "followers", "has_failed", "in_turn"]

T = TypeVar("T")
F = TypeVar("F", bound=FutureBase)

# What comes after what comes after … is done on one stack only up to here.
_DEEPEST: Final = 16
# Those that are made here; the ones that are not done are looked at after a fork.
followers: Living[FutureBase] = Living()


def _after_fork_in_child() -> None:
    for future in followers:
        future._orphan_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


class _Turn(threading.local):
    """What a thread that completes futures still has to go on with."""

    depth = 0

    def __init__(self) -> None:
        self.steps: deque[tuple[Callable[[Any], object], Any]] = deque()


_turn = _Turn()


def in_turn(step: Callable[[Any], object], future: Any) -> None:
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
            in_turn(*_turn.steps.popleft())
        except BaseException as error:
            raised = error
    if raised is not None:
        raise raised


def follow(future: concurrent.futures.Future[T], fn: Callable[[T], Any], following: F) -> F:
    """Complete `following` with ``fn(result)`` once there is one; see `Future.then`."""
    following._come_after([future])
    followers.add(following)
    step = partial(_go_on, copy_context(), fn, following)
    future.add_done_callback(partial(in_turn, step))
    return following


def _go_on(
    context: Context, fn: Callable[[Any], Any], following: Any, done: concurrent.futures.Future[Any]
) -> None:
    if has_failed(following, done) or not following._begin():
        return
    try:
        result = context.run(fn, done.result())
    except BaseException as error:
        following.set_exception(error)
        if isinstance(error, KeyboardInterrupt):
            raise
    else:
        following.set_result(result)


def has_failed(
    following: concurrent.futures.Future[Any], done: concurrent.futures.Future[Any]
) -> bool:
    """Hand a failure or a cancellation on; say whether there was one."""
    if done.cancelled():
        following.cancel()
        return True
    error = done.exception()
    if error is None:
        return False
    fail(following, error)
    return True


def fail(following: concurrent.futures.Future[Any], error: BaseException) -> None:
    """Have a future fail, unless somebody has cancelled it."""
    try:
        following.set_exception(error)
    except InvalidStateError:
        pass  # it has been cancelled in the meantime
