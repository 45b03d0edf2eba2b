"""Globals of functions that travel by value: one namespace for each module, shared by all of them.

A worker has one namespace for each module whose functions it was sent, as if it had imported that
module: what one function sets there - an initializer, say - others find. For ``__main__`` it is
the worker's own ``__main__``. Each global that a function needs goes along as an *entry*. It is set
only if it is newer than what came before and has changed since, so that what the worker itself has
set stays.

Other processes, the parent for one, give each pickle that they load namespaces of its own: what a
worker sends back must not change the program's globals.
"""

from __future__ import annotations

import sys
from _thread import _local

from manyhands._interpreter import own_place
from manyhands._pickle import exception_parts

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    # Module, name, version (a later one is greater), a hash of the pickle or None if it counts as
    # changed each time, pickle, buffers.
    Entry = tuple[str, str, int, int | None, bytes, list[Any]]

__all__ = ["has_strangers", "load", "made", "namespace"]

# In a worker: its namespaces, and the version and hash of what was set last under each name.
_namespaces: dict[str, dict[str, Any]] = {}
_set: dict[tuple[str, str], tuple[int, int | None]] = {}
# Modules, other than ``__main__``, whose functions or classes this process was sent by value.
_strangers: set[str] = set()
# In other processes: the namespaces of the pickle that a thread is loading.
_loading = _local()


def namespace(module: str) -> dict[str, Any]:
    """Return the globals for functions of `module`."""
    main_globals = own_place.main_globals
    if module != "__main__":
        _strangers.add(module)
    elif main_globals is not None:
        return main_globals
    namespaces = getattr(_loading, "namespaces", {}) if main_globals is None else _namespaces
    return namespaces.setdefault(module, {"__name__": module})


def made(module: str, make: Callable[..., Any], *args: Any) -> Any:
    """Make what is of `module` and was sent by value: ``make(*args)``."""
    _strangers.add(module)
    return make(*args)


def has_strangers() -> bool:
    """Say whether there are objects by value of modules that have not been imported here.

    The C pickler would import these, to see whether the objects are found there.
    """
    return any(module not in sys.modules for module in _strangers)


def load(entries: Iterable[Entry], data: bytes, buffers: Iterable[Any]) -> Any:
    """Set globals as `entries` say, then load an object whose functions need them."""
    if own_place.main_globals is not None:
        for module, name, version, digest, value, value_buffers in entries:
            before = _set.get((module, name))
            if before is not None and before[0] >= version:
                continue
            if before is None or digest is None or digest != before[1]:
                namespace(module)[name] = exception_parts.loads(value, value_buffers)
            _set[module, name] = (version, digest)
        return exception_parts.loads(data, buffers)
    outer = getattr(_loading, "namespaces", None)
    _loading.namespaces = {}
    try:
        for module, name, _, _, value, value_buffers in entries:
            namespace(module)[name] = exception_parts.loads(value, value_buffers)
        return exception_parts.loads(data, buffers)
    finally:
        if outer is None:
            del _loading.namespaces
        else:
            _loading.namespaces = outer
