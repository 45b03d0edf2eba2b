"""Exceptions taken apart, and put together without their classes' own code.

Python pickles an exception as a call of its class with ``args``. But a class may take something
else than it hands on to ``Exception.__init__``: then the call fails, or, worse, succeeds, and makes
"no no such file such file" of "no such file". Or it refuses that attributes are set.

This module is imported when a worker starts: it imports as little as it can.
"""

from __future__ import annotations

import _pickle  # what `pickle` is made of; that itself imports much

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # The class, what its nearest builtin base is called with, and its attributes.
    Parts = tuple[type[BaseException], tuple[Any, ...], dict[str, Any]]

__all__ = ["Apart", "Rest", "from_parts", "loads", "parts_of"]


def parts_of(error: BaseException) -> Parts | None:
    """Take an exception apart.

    Returns:
        The arguments of `from_parts`; None if the class says itself how it is pickled, or has
        slots, which only its own code fills.

    Example:
        >>> parts_of(KeyError("k"))
        (<class 'KeyError'>, ('k',), {})
    """
    kind = type(error)
    base: Any = _base_of(kind)
    if (
        kind.__reduce_ex__ is not object.__reduce_ex__
        or kind.__reduce__ is not base.__reduce__
        or kind.__setstate__ is not BaseException.__setstate__
        or any(vars(each).get("__slots__") for each in kind.__mro__)
    ):
        return None
    reduced = base.__reduce__(error)
    args: Any = reduced[1]
    if isinstance(error, BaseExceptionGroup):
        args = (args[0], [Apart(each) for each in error.exceptions])
    return kind, args, dict(*reduced[2:])


def from_parts(
    kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    """Put an exception together.

    Example:
        >>> from_parts(OSError, (2, "gone", "file"), {}).filename
        'file'
    """
    base: Any = _base_of(kind)
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    _set(error, attributes)
    return error


class Apart:
    """Pickles as an exception of which its class's own code knows nothing.

    Args:
        error: the exception; one that has no parts is pickled as its class wants it.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __reduce__(self) -> tuple[object, ...]:
        parts = parts_of(self._error)
        return (_itself, (self._error,)) if parts is None else (from_parts, parts)


class Rest:
    """Pickles as an exception of which something stays behind.

    An attribute that does is None, as a note says; an argument is told in words; a group has other
    members in the place of those that cannot go.

    Args:
        error: the exception.
        may_go: ``may_go(object)`` says whether it can be pickled.
        form_of: ``form_of(error)`` is what a member of a group is pickled as.

    Attributes:
        lost: the names of what stays behind; none if the exception has no parts.
    """

    def __init__(
        self,
        error: BaseException,
        may_go: Callable[[object], bool],
        form_of: Callable[[BaseException], object],
    ) -> None:
        self.lost: list[str] = []
        parts = parts_of(error)
        if parts is None:
            return
        kind, args, attributes = parts
        if isinstance(error, BaseExceptionGroup):
            args = (args[0], [form_of(each) for each in error.exceptions])
        elif not all(map(may_go, args)):
            self.lost.append("args")
            args = tuple(arg if may_go(arg) else repr(arg) for arg in args)
        for name, value in attributes.items():
            if not may_go(value):
                self.lost.append(name)
                attributes[name] = None
        if self.lost:
            note = f"not sent along, because it cannot be pickled: {', '.join(self.lost)}"
            attributes["__notes__"] = [*(attributes.get("__notes__") or ()), note]
        if isinstance(error, BaseExceptionGroup):
            self.lost.append("exceptions")  # their own notes say what of them
        self._parts = kind, args, attributes

    def __reduce__(self) -> tuple[object, ...]:
        return from_parts, self._parts


def _itself(error: BaseException) -> BaseException:
    return error


def _base_of(kind: type[BaseException]) -> type[BaseException]:
    for base in kind.__mro__:
        if base.__module__ == "builtins":
            return base
    return BaseException  # there is always one


def _set(error: BaseException, attributes: dict[str, Any]) -> None:
    """Set attributes past what the class does to assignments: a frozen one would refuse."""
    for name, value in attributes.items():
        try:
            object.__setattr__(error, name, value)
        except Exception:  # a property, for example
            error.__dict__[name] = value


def loads(data: bytes | bytearray | memoryview, buffers: Iterable[Any] = ()) -> Any:
    """As `pickle.loads`, but an exception among the objects that its class cannot make is made.

    Raises:
        Exception: as `pickle.loads`.
    """
    buffers = buffers if isinstance(buffers, list | tuple) else list(buffers)
    try:
        return _pickle.loads(data, buffers=buffers)
    except Exception as error:
        if not _is_of_making_one(error):
            raise
        reason = error
    try:
        return _load_again(data, buffers)
    except Exception:
        raise reason from None


def _is_of_making_one(error: Exception) -> bool:
    """Say whether an error may come from a call of an exception's class, or of its attributes.

    To load anything else twice would be wrong: it may have done something the first time.
    """
    step = error.__traceback__
    last = step
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_argcount and step is not error.__traceback__:
            first = step.tb_frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, BaseException) or (
                isinstance(first, type) and issubclass(first, BaseException)
            ):
                return True
        last, step = step, step.tb_next
    # A call with the wrong arguments has no frame of its own.
    return isinstance(error, TypeError) and last is error.__traceback__


def _load_again(data: bytes | bytearray | memoryview, buffers: Iterable[Any]) -> Any:
    import io
    import pickle

    base: Any = vars(pickle)["_Unpickler"]  # the one in Python can be told how to do each step

    class Unpickler(base):  # type: ignore[misc]
        dispatch = dict(base.dispatch)

        def load_reduce(self) -> None:
            args = self.stack.pop()
            made = self.stack[-1]
            try:
                self.stack[-1] = made(*args)
            except Exception:
                if not isinstance(made, type) or not issubclass(made, BaseException):
                    raise
                self.stack[-1] = from_parts(made, args, {})

        def load_build(self) -> None:
            error = self.stack[-2]
            if not isinstance(error, BaseException) or not isinstance(self.stack[-1], dict):
                super().load_build()
            else:
                _set(error, self.stack.pop())

        dispatch[pickle.REDUCE[0]] = load_reduce
        dispatch[pickle.BUILD[0]] = load_build

    return Unpickler(io.BytesIO(data), buffers=buffers).load()
