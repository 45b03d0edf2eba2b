"""When a function's pickle may be kept and sent again, and when it must be made again.

A function that a worker imports by name is always the same few bytes. One that travels by value
carries along what it refers to: its pickle holds for as long as all of that is still the same, and
can only be kept if none of it can change inside. One change goes unnoticed: an attribute that the
function itself gets only after it has been pickled.
"""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

from manyhands._pickle import pickling
from manyhands._pickle.constants import is_constant, is_importable

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal

    # What has to be found unchanged: (container, name, value). A dict is asked for the item `name`,
    # anything else for the attribute `name`; `ABSENT` stands for a name that is not there.
    Guard = tuple[tuple[object, str, object], ...]

__all__ = ["ABSENT", "function_key", "is_kept"]


class _Absent:
    """Type of ``ABSENT``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""Stands in a guard for a global name that must stay undefined (it means a builtin)."""


def function_key(fn: Callable[..., Any]) -> tuple[bytes | None, Guard | Literal[False] | None]:
    """Pickles a function and says for how long the pickle holds.

    Args:
        fn: what to call in a worker.

    Returns:
        The pickle, for ``pickling.loads``, and its guard: None if it holds forever (the worker
        imports the function by name), or a tuple of ``(container, name, value)`` for
        ``_native.guard_holds`` to check. ``(None, False)`` if it must be pickled for every task,
        because something that travels with it can change without notice.

    Raises:
        TypeError, pickle.PicklingError: as ``pickling.dumps``.

    Example:
        >>> function_key(len)[1] is None
        True
    """
    guard = _guard_of(fn)
    return (None if guard is False else pickling.dumps_in_band(fn, "fn")), guard


def is_kept(fn: Callable[..., Any]) -> bool:
    """Say whether the pickle of a function is kept from one task to the next."""
    return _guard_of(fn) is not False


def _guard_of(fn: Callable[..., Any]) -> Guard | Literal[False] | None:
    if is_importable(fn):
        return None
    collected: list[tuple[object, str, object]] = []
    if type(fn) is FunctionType and _collect(fn, collected, set()):
        return tuple(collected)
    return False


def _collect(fn: FunctionType, collected: list[tuple[object, str, object]], seen: set[int]) -> bool:
    """Add everything that ``fn`` carries along; False as soon as something of it can change."""
    if id(fn) in seen:
        return True
    seen.add(id(fn))
    found: list[tuple[object, str, object]] = [
        (fn, "__code__", fn.__code__),
        (fn, "__defaults__", fn.__defaults__),
        (fn, "__kwdefaults__", fn.__kwdefaults__),
    ]
    carried: list[object] = list(fn.__defaults__ or ())
    for names in (fn.__kwdefaults__ or {}, fn.__dict__):
        for name, value in list(names.items()):  # other threads may set attributes in the meantime
            found.append((names, name, value))
            carried.append(value)
    for cell in fn.__closure__ or ():
        try:
            found.append((cell, "cell_contents", cell.cell_contents))
        except ValueError:
            return False  # not filled yet: it will be
        carried.append(cell.cell_contents)
    for name in sorted(set(_global_names(fn.__code__))):
        value = fn.__globals__.get(name, ABSENT)
        found.append((fn.__globals__, name, value))
        carried.append(value)
    collected.extend(found)
    return all(_stays(value, collected, seen) for value in carried)


def _stays(value: object, collected: list[tuple[object, str, object]], seen: set[int]) -> bool:
    if value is ABSENT or is_constant(value):
        return True
    if isinstance(value, ModuleType):
        # A module that is not imported under its name travels by value, too.
        return value.__name__ != "__main__" and sys.modules.get(value.__name__) is value
    if isinstance(value, BuiltinFunctionType | type):
        return is_importable(value)
    if type(value) is FunctionType:
        return is_importable(value) or _collect(value, collected, seen)
    return False


def _global_names(code: CodeType) -> Iterator[str]:
    """Names that a function or the functions inside it load from the module's globals."""
    import dis

    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)
