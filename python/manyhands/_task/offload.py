"""Calls that wait, made for coroutines in threads of their own.

What waits here, for results or for the end of a pool, may wait for pools of every kind. So these
threads belong to no pool that a program uses, and there is one for each call under way.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from weakref import ref

from manyhands import _native
from manyhands._future.future import Future  # noqa: TC001 - registers the class of futures
from manyhands._worker.crew import Crew, crews

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_in_coroutine", "offload"]

P = ParamSpec("P")
T = TypeVar("T")

# More than any program has under way; a thread is started where none is idle.
_MOST: Final = 10_000
_IDLE_TIMEOUT: Final = 0.25  # seconds

_crew: Final = Crew("manyhands-offload", None, (), None)
crews.add(_crew)
_threads: Final[Any] = _native.ThreadPoolBase()
_threads._open(_MOST, _IDLE_TIMEOUT, ref(_crew))


def offload(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Have ``fn(*args, **kwargs)`` called in a thread, in a copy of the caller's context.

    Whoever cancels the future asks the call to stop: its waits raise `TaskCancelled`.
    """
    future: Future[T] = _threads.submit(fn, *args, **kwargs)
    return future


def is_in_coroutine() -> bool:
    """Say whether an event loop of asyncio runs in this thread, which nobody should hold up."""
    asyncio: Any = sys.modules.get("asyncio.events")
    return asyncio is not None and asyncio._get_running_loop() is not None
