"""Modules that are imported when they are first needed: a first task is waited for."""

from __future__ import annotations

import sys
from _thread import get_ident

from manyhands import _native

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["module"]

_there: dict[str, Any] = {}
# Before it became the parent's, which may have put files there that are called like the standard
# library's, and had its own modules from before.
_path = list(sys.path)


def module(name: str) -> Any:
    """Return a module, which is imported if need be, even if a task has used up all descriptors.

    What it imports itself is looked for where this process was started to look.

    Args:
        name: the full name of one of manyhands' own modules, or of the standard library's.

    Example:
        >>> module("manyhands._pickle.pickling").loads(b"N.") is None
        True
    """
    found = _there.get(name)
    if found is None:
        _native.lend_descriptor(_import, name)
        found = _there[name] = sys.modules[name]
    return found


def _import(name: str) -> None:
    places: list[Any] = sys.meta_path
    usual: Any = sys.modules["_frozen_importlib_external"].PathFinder
    first = _First(usual)
    places.insert(places.index(usual) if usual in places else len(places), first)
    try:
        __import__(name)
    finally:
        places.remove(first)


class _First:
    """A finder that looks on this module's path, for the thread that made it."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual
        self._thread = get_ident()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module that is in no package; None for others."""
        if path is not None or get_ident() != self._thread:
            return None
        found: ModuleSpec | None = self._usual.find_spec(name, _path, target)
        return found
