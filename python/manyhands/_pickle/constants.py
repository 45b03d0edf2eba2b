"""Values that can never change, and definitions that every process finds by name."""

from __future__ import annotations

import sys

from manyhands._pickle import findable

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_constant", "is_importable"]

_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(...), type(NotImplemented)}
)
# Types of the standard library whose instances cannot change; looked up by name, so that none of
# their modules is imported for it.
_CONSTANT_TYPES = frozenset(
    {
        ("datetime", "date"),
        ("datetime", "datetime"),
        ("datetime", "time"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        ("pathlib", "PosixPath"),
        ("pathlib", "PurePosixPath"),
        ("pathlib._local", "PosixPath"),
        ("pathlib._local", "PurePosixPath"),
        ("re", "Pattern"),
        ("uuid", "UUID"),
    }
)


def is_importable(obj: Any) -> bool:
    """Whether a function or class is found in its module by name, in any process."""
    module = getattr(obj, "__module__", None)
    path = getattr(obj, "__qualname__", None)
    if type(module) is not str or type(path) is not str or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
        if found is None:
            return False
    return found is obj and findable.is_found(module)


def is_constant(value: object) -> bool:
    """Whether a value can never change: a number, a text, a date, a tuple or frozenset of such."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is tuple or kind is frozenset:
        return all(is_constant(item) for item in value)  # type: ignore[attr-defined]
    return (kind.__module__, kind.__qualname__) in _CONSTANT_TYPES
