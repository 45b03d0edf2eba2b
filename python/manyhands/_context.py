"""Context variables on their way from the code that submits a task to the task.

A variable is known by its home, the module and the name under which the module holds it. A variable
without a home (made inside a function, say) or in ``__main__`` is given one when a pickled function
refers to it. Values that cannot be pickled stay behind, as do variables of modules that the worker
has not imported by the time the task starts: importing them for that would be a side effect
nobody asked for.
"""

from __future__ import annotations

import _pickle as pickle  # what `pickle` is made of; that itself imports much
import sys
from contextvars import Context, ContextVar, copy_context

from manyhands import _own_settings, _pickling
from manyhands._constants import is_constant
from manyhands._warning_filters import is_their_context

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "apply_context",
    "dump_context",
    "fresh_context",
    "reduce_variable",
    "use_base",
    "variable_at",
]

# A home: the module's name and the variable's name in it, or "" and a unique text.
Home = tuple[str, str]

_homes: dict[ContextVar[Any], Home | None] = {}
# Those of variables that no module holds.
_given: dict[ContextVar[Any], Home] = {}
# What could not be pickled: finding that out takes too long to be done for every task.
_refused: set[tuple[ContextVar[Any], type]] = set()
# What lives in a home that no module provides: the variable itself, or in a worker one made for it.
_settled: dict[Home, ContextVar[Any]] = {}
# Kept only if every value is a constant: others may change inside without the context changing.
_last_dumped: tuple[Context, bytes] | None = None
# Kept only if no task could have changed a value, and no module was missing that may be there now.
_last_applied: tuple[bytes, Context] | None = None
# What every task of this process starts from: what the initializer has set.
_base = Context()
_nothing = object()


def dump_context() -> bytes:
    """Pickles what can be pickled of the calling thread's context variables.

    To be called after the task's function and arguments have been pickled: that gives variables
    without a home one.

    Returns:
        The pickle, or ``b""`` if there is nothing to send. The same bytes object is returned for
        as long as the context has not changed.

    Example:
        >>> import contextvars
        >>> contextvars.Context().run(dump_context)
        b''
    """
    global _last_dumped
    context = copy_context()
    if not context:
        return b""
    last = _last_dumped
    if last is not None and _is_same(last[0], context):
        return last[1]
    values: list[tuple[Home, bytes]] = []
    settings: list[_own_settings.Sent] = []
    constant = True
    for variable, value in context.items():
        if is_their_context(variable):
            continue
        if _own_settings.is_setting(variable):
            constant = False
            setting = _own_settings.dump(variable, value)
            if setting is not None:
                settings.append(setting)
            continue
        home = _home_of(variable)
        if home is not None:
            if (variable, type(value)) in _refused:
                continue
            constant = constant and is_constant(value)
            try:
                values.append((home, _pickling.dumps_in_band(value)))
            except Exception:
                # What cannot be pickled stays behind, as promised.
                if type(value).__module__ != "builtins":  # a list may hold something else next time
                    _refused.add((variable, type(value)))
    data = pickle.dumps((values, settings), 5) if values or settings else b""
    _last_dumped = (context, data) if constant else None
    return data


def _is_same(one: Context, other: Context) -> bool:
    # Not `==`: that asks the values, and 1 == True.
    if len(one) != len(other):
        return False
    return all(other.get(variable, _nothing) is value for variable, value in one.items())


def apply_context(data: bytes) -> Context:
    """Make the context in which to run a task.

    Args:
        data: what ``dump_context`` returned.

    Returns:
        A context that no other task uses.

    Example:
        >>> apply_context(b"").run(len, "hand")
        4
    """
    global _last_applied
    if not data:
        return fresh_context()
    last = _last_applied
    if last is not None and last[0] == data:
        return _own_settings.make_own(last[1].copy())
    context = _base.copy()
    keep = True
    values, settings = pickle.loads(data)
    for setting in settings:
        context.run(_own_settings.apply, setting)
    for home, pickled in values:
        variable = variable_at(home)
        if variable is None:
            keep = False
            continue
        try:
            value = pickle.loads(pickled)
        except Exception:
            continue  # a value that cannot be unpickled here stays behind, as promised
        context.run(variable.set, value)
        keep = keep and is_constant(value)
    _last_applied = (data, context) if keep else None
    return _own_settings.make_own(context.copy())


def fresh_context() -> Context:
    """Make the context of a task whose submitter has sent none."""
    return _own_settings.make_own(_base.copy())


def use_base(base: Context) -> None:
    """Have every task start from a copy of `base`, with its submitter's variables on top."""
    global _base, _last_applied
    _base, _last_applied = base, None


def reduce_variable(
    variable: ContextVar[Any],
) -> tuple[Callable[..., ContextVar[Any]], tuple[Any, ...]]:
    """How to pickle a context variable itself: by its home and, where it has one, its default."""
    global _last_dumped
    home = _home_of(variable)
    if home is None:
        _last_dumped = None  # made when nobody could have used this variable
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


def _home_of(variable: ContextVar[Any]) -> Home | None:
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
