"""Context variables on their way from the code that submits a task to the task.

A variable is known by its home, the module and the name under which the module holds it. A variable
without a home (made inside a function, say) or in ``__main__`` is given one when a pickled function
refers to it. Values that cannot be pickled stay behind, as do variables of modules that the worker
has not imported by the time the task starts: importing them for that would be a side effect
nobody asked for.
"""

from __future__ import annotations

import _pickle as pickle  # what `pickle` is made of; that itself imports much
from contextvars import Context, ContextVar, copy_context

from manyhands._interpreter.warning_filters import is_their_context
from manyhands._pickle import own_settings, pickling
from manyhands._pickle.constants import is_constant
from manyhands._pickle.variables import home_of, homes_given, variable_at

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

    from manyhands._pickle.variables import Home

__all__ = ["apply_context", "dump_context", "fresh_context", "use_base"]

# What could not be pickled: finding that out takes too long to be done for every task.
_refused: set[tuple[ContextVar[Any], type]] = set()
# Kept only if every value is a constant: others may change inside without the context changing.
_last_dumped: tuple[Context, bytes, int] | None = None
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
    homes = homes_given()
    last = _last_dumped
    if last is not None and last[2] == homes and _is_same(last[0], context):
        return last[1]
    values: list[tuple[Home, bytes]] = []
    settings: list[own_settings.Sent] = []
    constant = True
    for variable, value in context.items():
        if is_their_context(variable):
            continue
        if own_settings.is_setting(variable):
            constant = False
            setting = own_settings.dump(variable, value)
            if setting is not None:
                settings.append(setting)
            continue
        home = home_of(variable)
        if home is not None:
            if (variable, type(value)) in _refused:
                continue
            constant = constant and is_constant(value)
            try:
                values.append((home, pickling.dumps_in_band(value)))
            except Exception:
                # What cannot be pickled stays behind, as promised.
                if type(value).__module__ != "builtins":  # a list may hold something else next time
                    _refused.add((variable, type(value)))
    data = pickle.dumps((values, settings), 5) if values or settings else b""
    _last_dumped = (context, data, homes) if constant else None
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
        return own_settings.make_own(last[1].copy())
    context = _base.copy()
    keep = True
    values, settings = pickle.loads(data)
    for setting in settings:
        keep = context.run(own_settings.apply, setting) and keep
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
    return own_settings.make_own(context.copy())


def fresh_context() -> Context:
    """Make the context of a task whose submitter has sent none."""
    return own_settings.make_own(_base.copy())


def use_base(base: Context) -> None:
    """Have every task start from a copy of `base`, with its submitter's variables on top."""
    global _base, _last_applied
    _base, _last_applied = base, None
