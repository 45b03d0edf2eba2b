"""Which modules of this program other processes find, too, and which travel by value.

A module that was loaded from a file by hand, or made at run time, is in ``sys.modules`` like any
other; a worker that is sent a function of it by name does not find it. One that is being
imported at this moment is found; but a worker that imports it comes to the same call that waits for
the worker here, and starts workers of its own, without end.
"""

from __future__ import annotations

import sys

from manyhands import _native
from manyhands._interpreter import own_place
from manyhands._interpreter.import_watch import NewModules

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["is_found", "names_by_value", "register_by_value", "unregister_by_value"]

# Names of modules that were registered, and of those that others do not find.
_registered: set[str] = set()
_missing: set[str] = set()
# Those that were being imported when this process last looked.
_unfinished: set[str] = set()


def register_by_value(module: ModuleType) -> None:
    """Send the functions and classes of a module, and of those inside it, by value from now on.

    Workers need not be able to import it then; they get the code that this process has, also
    after `importlib.reload`. Modules that no worker could find are sent so anyway.

    Args:
        module: the module, as imported.

    Raises:
        TypeError: it is no module.
        ValueError: it is not in ``sys.modules``, or is one of manyhands' own.

    Example:
        >>> import colorsys
        >>> mh.register_by_value(colorsys)
        >>> mh.unregister_by_value(colorsys)
    """
    _registered.add(_checked_name(module))
    _native.forget_functions()


def unregister_by_value(module: ModuleType) -> None:
    """Send a module's functions and classes by name again.

    Raises:
        TypeError: it is no module.
        ValueError: it was not registered.
    """
    name = _checked_name(module)
    try:
        _registered.remove(name)
    except KeyError:
        text = f"module {name!r} is not registered: see mh.register_by_value"
        raise ValueError(text) from None
    _native.forget_functions()


def _checked_name(module: ModuleType) -> str:
    if not isinstance(module, type(sys)):
        raise TypeError(
            f"a module is needed, not {type(module).__name__}: import it and pass the module"
        )
    name = module.__name__
    if name not in sys.modules:
        raise ValueError(f"module {name!r} is not in sys.modules: import it first")
    if name.partition(".")[0] == "manyhands":
        raise ValueError("manyhands is importable in every worker: it cannot be sent by value")
    return name


def is_found(module: str) -> bool:
    """Say whether others find a module of this name, and should import it from there."""
    _look()
    return module not in _missing and not any(
        module == name or module.startswith(name + ".") for name in (*_registered, *_unfinished)
    )


def names_by_value(data: bytes) -> bool:
    """Say whether a pickle may name a module that must not be taken by name.

    It may also be a text that happens to be in there: then nothing is lost but time.
    """
    _look()
    if not _missing and not _registered and not _unfinished:
        return False
    return any(name.encode() in data for name in (*_missing, *_registered, *_unfinished))


def _look() -> None:
    if _unfinished:
        _forget_finished()
    _new_modules.look()


def _judge(names: set[str], modules: dict[str, ModuleType]) -> None:
    _unfinished.update(name for name in names if _is_unfinished(modules[name]))
    if own_place.process_index is not None:
        return  # a worker answers its parent, which decides
    folders = set(sys.path)
    for name in names:
        in_place = name == "__main__" or _is_in_place(modules, name, folders)
        if in_place or _is_found_again(name):
            _missing.discard(name)
        else:
            _missing.add(name)


_new_modules = NewModules(_judge)


def _is_unfinished(module: Any) -> bool:
    """Say whether a module is being imported: its code runs, and has not come to its end."""
    return getattr(getattr(module, "__spec__", None), "_initializing", False) is True


def _forget_finished() -> None:
    finished = {name for name in tuple(_unfinished) if not _is_unfinished(sys.modules.get(name))}
    if finished:
        _unfinished.difference_update(finished)
        _native.forget_functions()


def _is_in_place(modules: dict[str, ModuleType], name: str, folders: set[str]) -> bool:
    """Say whether a module surely lies where an import looks for it: most do, and this is quick."""
    spec: Any = getattr(modules[name], "__spec__", None)
    origin = getattr(spec, "origin", None)
    if origin in ("built-in", "frozen"):
        return True
    parent, _, last = name.rpartition(".")
    if not isinstance(origin, str) or spec.name != name:
        return False
    folder, _, file = origin.rpartition("/")
    if file.startswith("__init__.") and folder.endswith("/" + last):
        folder = folder.rpartition("/")[0]
    elif not file.startswith(last + "."):
        return False
    if not parent:
        return folder in folders
    return folder in getattr(modules.get(parent), "__path__", ())


def _is_found_again(name: str) -> bool:
    """Say whether an import would find the module again, as the import system does it."""
    found = sys.modules.get(name)
    spec: Any = getattr(found, "__spec__", None)
    parent, _, _ = name.rpartition(".")
    origin = getattr(spec, "origin", None)
    if spec is None or spec.name != name:
        if parent:
            # Made by code of a module that is imported, as `os.path` is; or by hand.
            return parent in sys.modules
        if spec is not None and sys.modules.get(spec.name) is found:
            return True  # another name for a module that is judged under its own
        origin = getattr(found, "__file__", None)
        if origin is None:
            return type(found) is not type(sys)  # an object in a module's place, or made by hand
    path = getattr(sys.modules.get(parent), "__path__", None)
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        try:
            other = None if find is None else find(name, path, None)
        except Exception:
            continue
        if other is not None:
            return bool(other.origin == origin)
    return False
