"""Where context variables live, so that they are the same in other processes."""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Home", "home_of", "homes_given", "reduce_variable", "variable_at"]

# A home: the module's name and the variable's name in it, or "" and a unique text.
Home = tuple[str, str]

_homes: dict[ContextVar[Any], Home | None] = {}
# Those of variables that no module holds.
_given: dict[ContextVar[Any], Home] = {}


# What lives in a home that no module provides: the variable itself, or in a worker one made for it.
_settled: dict[Home, ContextVar[Any]] = {}


def reduce_variable(
    variable: ContextVar[Any],
) -> tuple[Callable[..., ContextVar[Any]], tuple[Any, ...]]:
    """How to pickle a context variable itself: by its home and, where it has one, its default."""
    home = home_of(variable)
    if home is None:
        from uuid import uuid4

        # In one step: threads that do this at the same time get one home.
        home = _given.setdefault(variable, ("", f"{variable.name}-{uuid4()}"))
        _homes[variable] = home
        _settled[home] = variable  # where the function comes back to, it finds this very variable
    try:
        default = (Context().run(variable.get),)
    except LookupError:
        return _settle, (home, variable.name)
    return _settle, (home, variable.name, *default)


def variable_at(home: Home) -> ContextVar[Any] | None:
    """Return the variable that lives at a home in this process, or None."""
    module, name = home
    settled = _settled.get(home)
    if settled is not None:
        return settled
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, ContextVar) else None


def _settle(home: Home, name: str, *default: Any) -> ContextVar[Any]:
    """Look a variable up, or make it: functions that refer to one home share one variable."""
    module, attribute = home
    if module and module != "__main__":
        import importlib

        found = getattr(importlib.import_module(module), attribute, None)
        if isinstance(found, ContextVar):
            return found
    variable = variable_at(home)
    if variable is None:
        made = ContextVar(name, default=default[0]) if default else ContextVar(name)
        # In one step: two threads that load such functions at the same time share one variable.
        variable = _settled.setdefault(home, made)
        _homes[variable] = home
    return variable


def home_of(variable: ContextVar[Any]) -> Home | None:
    """Where the variable lives; looked for once, since it means walking over all modules."""
    if variable in _homes:
        return _homes[variable]
    return _homes.setdefault(variable, _search(variable))


def _search(variable: ContextVar[Any]) -> Home | None:
    # multiprocessing's other name of `__main__` is none that workers know.
    modules = [item for item in list(sys.modules.items()) if item[0] != "__mp_main__"]
    # Last, since what a program has imported lives elsewhere, where workers find it, too.
    modules.sort(key=lambda item: item[0] == "__main__")
    short_name = variable.name.rpartition(".")[2]
    for module_name, module in modules:
        names = getattr(module, "__dict__", {})
        if names.get(short_name) is variable:
            return module_name, short_name
    for module_name, module in modules:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return module_name, name
    return None


def homes_given() -> int:
    """Count the homes that no module provides: what was written without one is out of date."""
    return len(_settled)
