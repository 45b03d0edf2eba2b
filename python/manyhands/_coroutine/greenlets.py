"""Plain functions as tasks of an event loop: each is a greenlet, and switches to wait.

A task of asyncio drives the greenlet. Where the function waits, the greenlet hands an awaitable to
that task and stands still; the task awaits it as any coroutine would, and switches back with what
came of it. There is no hub, and nothing is patched.
"""

from __future__ import annotations

import sys
from asyncio import _get_running_loop, current_task
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from manyhands import _native
from manyhands._coroutine.misplaced import misplaced
from manyhands._future.awaiting import completion
from manyhands._task.offload import offload

try:
    from greenlet import getcurrent, greenlet
except ImportError:
    # `await_` must be there to say that this is not the place for it.
    getcurrent = greenlet = object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["await_", "check_installed", "in_thread", "run"]

P = ParamSpec("P")
T = TypeVar("T")


class _TaskGreenlet(greenlet):  # type: ignore[misc] # of a package without types
    """A greenlet that a task of asyncio drives.

    Attributes:
        step: what the task must await next.
        task: which task that is. Its number only: what a greenlet that stands still refers to is
            invisible to the garbage collector.
    """

    __slots__ = ("step", "task")

    step: Awaitable[Any] | None
    task: int


def check_installed() -> None:
    """Raise ImportError, with what to do, if there are no greenlets."""
    try:
        import greenlet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "greenlets need the package 'greenlet', which this Python has not: pip install "
            "'manyhands[greenlet]', or use coroutines or threads",
            name="greenlet",
        ) from error


async def run(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a plain function as a greenlet, which waits by switching to the running event loop.

    If the task is cancelled, `asyncio.CancelledError` is raised in the function where it waits.

    Args:
        fn: the function; it runs in the context of this task.
        args: its arguments.
        kwargs: its keywords.

    Returns:
        what it returns.

    Where greenlet may be missing, call `check_installed` before.
    """
    here = getcurrent()
    child = _TaskGreenlet(fn, here)
    child.gr_context = here.gr_context
    child.task = id(current_task())
    thread = get_ident()
    step: Awaitable[Any] | None
    result: Any
    thrown: Any = None
    _native.count_greenlet(True)
    try:
        result = child.switch(*args, **kwargs)
        while child:  # it has not ended
            step, child.step = child.step, None
            try:
                result = await step  # type: ignore[misc] # anything; asyncio says what cannot be awaited
                thrown = None
            except BaseException as error:
                if get_ident() != thread or sys.is_finalizing():
                    # Collected as garbage, where no greenlet of that thread can run.
                    raise
                thrown = error
            step = None
            if getcurrent() is not here:
                # A task that is started eagerly begins in its starter's greenlet.
                here = child.parent = getcurrent()
            if thrown is None:
                result = child.switch(result)
            else:
                # As if it had come to the function without this one in between.
                result = child.throw(type(thrown), thrown, thrown.__traceback__.tb_next)
        return result  # type: ignore[no-any-return]
    finally:
        if get_ident() == thread:
            _native.count_greenlet(False)
        # A traceback keeps this frame, which must not keep the traceback.
        del child, here
        step = result = thrown = None


def await_(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable in a plain function that runs as a greenlet; return its result.

    That is, in a task of `GreenletPoolExecutor`, or of ``workers="greenlet"``. Other tasks of its
    event loop run meanwhile.

    Args:
        awaitable: what ``await`` takes: a coroutine, a future or task of asyncio.

    Raises:
        RuntimeError: the caller is no such function, but a coroutine, say. The coroutine that is
            not awaited then is closed.
        asyncio.CancelledError: the task is cancelled.
        Exception: what `awaitable` raises.

    Example:
        >>> import asyncio
        >>> def add_later(x, y):
        ...     mh.await_(asyncio.sleep(0.01))
        ...     return x + y
        >>> with mh.GreenletPoolExecutor() as ex:
        ...     ex.submit(add_later, 2, 3).result()
        5
    """
    here = getcurrent()
    if not _may_switch(here):
        is_foreign = type(here) is not _TaskGreenlet and getattr(here, "parent", None) is not None
        raise misplaced(awaitable, is_foreign)
    here.step = awaitable
    loop = here.parent
    # What a greenlet refers to that stands still is invisible to the garbage collector.
    del here, awaitable
    return loop.switch()  # type: ignore[no-any-return]


def _may_switch(here: Any) -> bool:
    """Say whether a greenlet is that of the task which its event loop runs now."""
    if type(here) is not _TaskGreenlet:
        return False
    # Not that of a coroutine which it has started eagerly; and in a forked child there is none.
    loop = _get_running_loop()
    return loop is not None and here.task == id(current_task(loop))


def _switched(fn: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...]) -> tuple[T] | None:
    """Await ``fn(*args)`` and return the result in a tuple; None if the caller is no greenlet."""
    if not _may_switch(getcurrent()):
        return None
    return (await_(fn(*args)),)


async def in_thread(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Await ``fn(*args, **kwargs)``, called in a thread, for what only a thread can wait for."""
    return await completion(offload(fn, *args, **kwargs))


_native.register_switch(_switched)
