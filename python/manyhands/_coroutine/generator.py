"""Generators as coroutines: `coroutine` and `spawn`.

A generator that is stepped by an event loop is the bottom of a stack. What it yields is looked at:
a generator is put on top and its return value becomes the value of that ``yield``, an awaitable is
awaited, None goes to the loop. So depth costs a list entry, and never a frame of the interpreter.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Coroutine
from functools import wraps
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from manyhands._task.awaits import MARK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from types import CodeType, FrameType, TracebackType

__all__ = ["GeneratorCoroutine", "awaited", "coroutine", "spawn"]

P = ParamSpec("P")
T = TypeVar("T")

# Tasks that `spawn` has made; asyncio itself keeps them only as long as something else does.
_spawned: set[asyncio.Task[Any]] = set()


class _Level:
    """One generator of a stack, as tools see it that print what a task awaits."""

    __slots__ = ("_depth", "_stack")

    def __init__(self, stack: tuple[Any, ...], depth: int) -> None:
        self._stack = stack
        self._depth = depth

    @property
    def cr_frame(self) -> FrameType | None:
        frame: FrameType | None = _inside(self._stack[self._depth], "frame")
        return frame

    @property
    def cr_code(self) -> CodeType | None:
        code: CodeType | None = _inside(self._stack[self._depth], "code")
        return code

    @property
    def cr_await(self) -> object:
        return _awaited_by(self._stack, self._depth)


def _inside(top: Any, what: str) -> Any:
    for prefix in ("gi_", "cr_", "ag_"):
        found = getattr(top, prefix + what, None)
        if found is not None:
            return found
    return None


def _awaited_by(stack: tuple[Any, ...], depth: int) -> object:
    if depth + 1 < len(stack):
        # What has no frame, such as a future, ends the chain.
        has_frame = _inside(stack[depth + 1], "frame") is not None
        return _Level(stack, depth + 1) if has_frame else None
    for name in ("gi_yieldfrom", "cr_await"):
        found = getattr(stack[depth], name, None)
        if found is not None:
            return found
    return None


class GeneratorCoroutine(Coroutine[Any, Any, T]):
    """A generator that is awaited, or run as a task, like what ``async def`` makes.

    In it, ``yield`` takes what ``await`` does, other generators, and None, which gives other tasks
    a turn.

    Args:
        generator: what to run; it must not have begun.
    """

    _has_begun = True  # as far as `__del__` cares, before it is set up

    def __init__(self, generator: GeneratorType[Any, Any, T]) -> None:
        self.__name__ = generator.__name__
        self.__qualname__ = generator.__qualname__
        self._stack: list[Any] = [generator]
        self._code: CodeType = generator.gi_code
        # Whether the top of the stack is no generator of ours: what it yields goes to the loop.
        self._is_foreign = False
        self._has_begun = False
        self._runs = False

    def __repr__(self) -> str:
        return f"<coroutine object of generator {self.__qualname__} at {id(self):#x}>"

    # What asyncio's own tools look for in a coroutine.

    @property
    def cr_code(self) -> CodeType:
        return self._code

    @property
    def cr_frame(self) -> FrameType | None:
        frame: FrameType | None = _inside(self._stack[0], "frame") if self._stack else None
        return frame

    @property
    def cr_running(self) -> bool:
        return self._runs

    @property
    def cr_await(self) -> object:
        stack = tuple(self._stack)
        return _awaited_by(stack, 0) if stack else None

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __iter__(self) -> GeneratorCoroutine[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Go on with `value` as that of the last ``yield``; return what is for the event loop."""
        return self._step(value, None)

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        """Raise an exception at the last ``yield``; return what is for the event loop."""
        error = kind
        if isinstance(kind, type):
            error = value if isinstance(value, kind) else kind() if value is None else kind(value)
        if traceback is not None:
            error = error.with_traceback(traceback)
        if isinstance(error, GeneratorExit):
            self._close_down_to(1)
        return self._step(None, error)

    def close(self) -> None:
        """End the generators, from the top down: GeneratorExit is raised at their ``yield``.

        Raises:
            RuntimeError: one of them has yielded again.
        """
        self._has_begun = True
        if self._runs:
            raise ValueError("coroutine already executing")
        self._close_down_to(0)

    def __del__(self) -> None:
        if not self._has_begun and self._stack:
            text = f"coroutine {self.__qualname__!r} was never awaited"
            warnings.warn(text, RuntimeWarning, stacklevel=2, source=self)

    def _close_down_to(self, depth: int) -> None:
        stack, error = self._stack, None
        while len(stack) > depth:
            top = stack.pop()
            self._is_foreign = False
            try:
                if error is None:
                    top.close()
                    continue
                top.throw(error)
            except StopIteration:
                error = None
            except BaseException as raised:
                error = raised
            else:
                error = RuntimeError("coroutine ignored GeneratorExit")
        if error is not None:
            if not stack:
                raise error
            self._step(None, error)

    def _step(self, value: Any, error: BaseException | None) -> Any:
        stack = self._stack
        if self._runs:
            raise ValueError("coroutine already executing")
        if not stack:
            raise RuntimeError("cannot reuse already awaited coroutine")
        self._has_begun = self._runs = True
        thrown: BaseException | None
        try:
            while True:
                top = stack[-1]
                try:
                    if error is not None:
                        thrown, error = error, None
                        yielded = top.throw(thrown)
                    else:
                        yielded = top.send(value)
                except StopIteration as stop:
                    stack.pop()
                    self._is_foreign = False
                    if not stack:
                        raise
                    value = stop.value
                    continue
                except BaseException as raised:
                    stack.pop()
                    self._is_foreign = False
                    if not stack:
                        raise
                    error = raised
                    continue
                if self._is_foreign or yielded is None:
                    return yielded
                value = None
                error = self._push(yielded)
        finally:
            self._runs = False
            # A traceback keeps this frame.
            thrown = error = value = None

    def _push(self, yielded: Any) -> BaseException | None:
        """Put what a generator has yielded on the stack; return what to raise there instead."""
        if type(yielded) is GeneratorType:
            self._stack.append(yielded)
            return None
        if isinstance(yielded, GeneratorCoroutine):
            if yielded._has_begun:
                return RuntimeError("cannot reuse already awaited coroutine")
            # Its generators, not itself: stepping through it would be a call for each depth.
            yielded._has_begun = True
            self._stack += yielded._stack
            yielded._stack = []
            return None
        if type(yielded) is CoroutineType:
            # Itself, and not what its `__await__` makes, of which tools could not tell the place.
            self._stack.append(yielded)
            self._is_foreign = True
            return None
        wait = getattr(type(yielded), "__await__", None)
        if wait is None:
            return TypeError(
                f"{self.__qualname__} yielded {yielded!r}, of {type(yielded).__name__}: in a "
                "coroutine, yield takes an awaitable, a generator, or None; for a generator that "
                "produces values there is iteration"
            )
        try:
            steps = wait(yielded)
        except BaseException as raised:
            return raised
        has_all = hasattr(steps, "send") and hasattr(steps, "throw") and hasattr(steps, "close")
        self._stack.append(steps if has_all else _stepped(steps))
        self._is_foreign = True
        return None


def _stepped(steps: Iterable[Any]) -> Generator[Any, Any, Any]:
    """Give an iterator that only has ``__next__`` what generators have."""
    return (yield from steps)


def awaited(made: Any, fn: object) -> Awaitable[Any]:
    """Return what to await for the result of a call of `fn` that has returned `made`.

    Raises:
        TypeError: that cannot be awaited.
    """
    kind = type(made)
    if kind is CoroutineType or hasattr(kind, "__await__"):
        return made  # type: ignore[no-any-return]
    if kind is GeneratorType:
        return GeneratorCoroutine(made)
    name = getattr(fn, "__qualname__", None) or repr(fn)
    raise TypeError(
        f"{name} returned {kind.__name__}, which cannot be awaited: event loops run async def "
        "functions and generator functions; for other functions there is ThreadPoolExecutor"
    )


def coroutine(fn: Callable[P, Generator[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a generator function one of coroutines, which are used like those of ``async def``.

    What it returns can be awaited, and is taken by ``asyncio.create_task``, by task groups,
    ``gather``, ``wait_for`` and timeouts. In the function, ``result = yield awaitable`` is what
    ``result = await awaitable`` is elsewhere. It may also yield another generator, whose return
    value is the result, and None, which gives other tasks a turn.

    Args:
        fn: a generator function. One of ``async def`` is returned as it is.

    Raises:
        TypeError: it is neither; or, in the function, something else is yielded.

    Example:
        >>> import asyncio
        >>> @mh.coroutine
        ... def add_later(x, y):
        ...     yield asyncio.sleep(0.01)
        ...     return x + y
        >>> asyncio.run(add_later(2, 3))
        5
    """
    if inspect.iscoroutinefunction(fn):
        return fn
    if not inspect.isgeneratorfunction(fn):
        name = getattr(fn, "__qualname__", None) or repr(fn)
        raise TypeError(f"coroutine() needs a generator function, and {name} has no yield")

    @wraps(fn)
    def made(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        made: Any = fn(*args, **kwargs)
        return GeneratorCoroutine(made)

    setattr(made, MARK, True)
    mark: Any = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(made)
        return made
    # So it is said before Python 3.12.
    setattr(made, "_is_coroutine", getattr(asyncio.coroutines, "_is_coroutine", None))  # noqa: B010
    return made


def spawn(
    generator: Generator[Any, Any, T] | Coroutine[Any, Any, T], *, name: str | None = None
) -> asyncio.Task[T]:
    """Run a generator as a task of the running event loop.

    It is kept until it has ended, also if nobody else keeps the task.

    Args:
        generator: a generator, of a function such as `coroutine` takes; or a coroutine.
        name: what the task is called; None for the function's name.

    Raises:
        TypeError: it is neither.
        RuntimeError: no event loop runs in this thread.

    Example:
        >>> import asyncio
        >>> def count(n):
        ...     for _ in range(n):
        ...         yield
        ...     return n
        >>> async def main():
        ...     return await mh.spawn(count(3))
        >>> asyncio.run(main())
        3
    """
    loop = asyncio.get_running_loop()
    made: Any = generator
    title = name or _name(made)
    if type(made) is GeneratorType:
        made = GeneratorCoroutine(made)
    if isinstance(made, GeneratorCoroutine):
        made = _native(made)
    elif not asyncio.iscoroutine(made):
        hint = f": call it, spawn({_name(made)}(...))" if callable(made) else ""
        raise TypeError(f"spawn() needs a generator or coroutine, not {_name(made)}{hint}")
    task: asyncio.Task[T] = loop.create_task(made, name=title)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task


async def _native(made: GeneratorCoroutine[T]) -> T:
    """Await a coroutine of ours, for ``python -m asyncio pstree``.

    That reads a process's tasks from outside, and takes what they run for native coroutines.
    """
    return await made


def _name(made: object) -> str:
    name = getattr(made, "__qualname__", None)
    return name if isinstance(name, str) else type(made).__name__
