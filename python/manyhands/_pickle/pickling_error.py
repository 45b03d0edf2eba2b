"""Finding the one object that cannot be pickled, to say in the error where it sits."""

from __future__ import annotations

import pickle
from contextlib import suppress
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from manyhands._pickle import by_value

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["explain"]

# The search pickles parts of the object again and again; it ends after so many attempts, wherever
# it has got to, so that an error about a huge object is not endless in coming.
_ATTEMPTS = 300
_DEPTH = 12

# The place of a tuple (args, kwargs, ...), whose parts have names that say more than their index.
CALL = "the call"
# The same, of which the first argument is the function.
CARRIED_CALL = "the carried call"

_FOR_INITARGS = (
    "; multiprocessing's locks, queues and pipes can be handed to workers only through initargs, "
    "and only those made by the 'spawn' or 'forkserver' context"
)


def explain(error: Exception, obj: object, place: str) -> Exception:
    """Return an exception of the same type that names the offending object and where it sits.

    Args:
        error: what pickling ``obj`` has raised.
        obj: the object that could not be pickled.
        place: what ``obj`` is called in the message, for example ``"args"``; may be empty.

    Returns:
        A new exception if ``error`` is one of the types that pickling itself raises, otherwise
        ``error`` with a note.

    Example:
        >>> print(explain(TypeError("cannot pickle"), [1, iter], "args"))
        cannot pickle
    """
    path, offender = _Search().run(obj, place or "it")
    if place in (CALL, CARRIED_CALL):
        path = _part_of_call(path, place)
    where = ""
    if offender is not obj or place:
        where = f"; the object is {path}: {_short(offender)}"
    elif type(offender).__module__ != "builtins" or isinstance(offender, FunctionType):
        where = f"; the object is {_short(offender)}"
    text = str(error)
    if "through inheritance" in text or "SemLock created in a fork context" in text:
        where += _FOR_INITARGS
    if type(error) in (TypeError, pickle.PicklingError, AttributeError, RuntimeError):
        if type(error) is AttributeError:
            return pickle.PicklingError(text + where)
        return type(error)(text + where)
    # The note is a courtesy; an exception that refuses it (a frozen one) is told all the same.
    with suppress(Exception):
        error.add_note(f"while pickling{where}" if where else "while pickling it")
    return error


def _part_of_call(path: str, place: str) -> str:
    """Say by the names that the caller knows which part of a call it is."""
    args, kwargs = f"{place}[0]", f"{place}[1]"
    if path.startswith(kwargs):
        return "kwargs" + path.removeprefix(kwargs)
    if not path.startswith(args):
        return path
    rest = path.removeprefix(args)
    number, bracket, part = rest.removeprefix("[").partition("]")
    if place == CALL or not (bracket and number.isdigit()):
        return "args" + rest
    return f"fn{part}" if number == "0" else f"args[{int(number) - 1}]{part}"


class _Search:
    """Walks from an object that cannot be pickled down to the smallest part that cannot."""

    def __init__(self) -> None:
        self.attempts = _ATTEMPTS
        self.seen: set[int] = set()

    def run(self, obj: object, path: str) -> tuple[str, object]:
        for _ in range(_DEPTH):
            self.seen.add(id(obj))
            for name, part in _parts(obj):
                if id(part) in self.seen or not self.fails(part):
                    continue
                path, obj = path + name, part
                break
            else:
                break
        return path, obj

    def fails(self, part: object) -> bool:
        if self.attempts == 0:
            return False
        self.attempts -= 1
        try:
            by_value.dumps(part)
        except Exception:
            return True
        return False


def _parts(obj: Any) -> Iterator[tuple[str, object]]:
    """Return what ``obj`` is made of, each with the text that leads from ``obj`` to it."""
    kind = type(obj)
    if issubclass(kind, dict):
        for key, value in dict.items(obj):
            yield f" key {_short(key)}", key
            yield f"[{_short(key)}]", value
    elif issubclass(kind, list | tuple):
        for index, item in enumerate(obj):
            yield f"[{index}]", item
    elif issubclass(kind, set | frozenset):
        for item in obj:
            yield f" item {_short(item)}", item
    elif kind is MethodType:
        yield ".__self__", obj.__self__
        yield ".__func__", obj.__func__
    elif kind is FunctionType:
        yield from _parts_of_function(obj)
    elif kind.__module__ == "functools" and kind.__name__ == "partial":
        yield ".func", obj.func
        yield ".args", obj.args
        yield ".keywords", obj.keywords
    names = getattr(obj, "__dict__", None)
    if isinstance(names, dict) and not isinstance(obj, type):
        for name, value in list(names.items()):
            yield f".{name}", value


def _parts_of_function(fn: FunctionType) -> Iterator[tuple[str, object]]:
    yield ".__defaults__", fn.__defaults__
    yield ".__kwdefaults__", fn.__kwdefaults__
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        if isinstance(cell, CellType):
            try:
                yield f", its variable {name!r}", cell.cell_contents
            except ValueError:
                continue  # an empty cell
    for name in fn.__code__.co_names:
        if name in fn.__globals__:
            yield f", its global {name!r}", fn.__globals__[name]


def _short(obj: object) -> str:
    """Return a repr; never fails, and is never long."""
    try:
        text = repr(obj)
    except Exception:
        text = object.__repr__(obj)
    return text if len(text) <= 80 else text[:77] + "..."
