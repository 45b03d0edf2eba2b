"""Settings that libraries keep for each thread of control, in context variables of their own.

decimal and gmpy2 keep an object there that changes in place: copies of a context share it, so each
task gets one of its own. NumPy 2 keeps how it handles floating-point errors in an object that
cannot be pickled. None of these variables can be found by name, as other variables are.
"""

from __future__ import annotations

import _pickle as pickle  # what `pickle` is made of; that itself imports much
import sys
from contextvars import ContextVar, copy_context

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any

__all__ = ["Sent", "apply", "dump", "is_setting", "lay_under", "make_own", "own_context"]

# The module, and what its `_load_*` function needs.
Sent = tuple[str, bytes]

# Modules of classes whose objects change in place.
_CHANGING = {"decimal", "gmpy2"}
# By the name of the variable, which its library has chosen: the module.
_MODULES = {
    "decimal_context": "decimal",
    "gmpy2_context": "gmpy2",
    "numpy.ufunc.extobj": "numpy",
}
# By module: a value's text, and what was sent for it. Pickling it for each task takes longer.
_last_sent: dict[str, tuple[str, bytes]] = {}
# What to set in the task's context as soon as the task imports the module.
_awaited: ContextVar[tuple[Sent, ...]] = ContextVar("_awaited", default=())
_watched: set[str] = set()


def make_own(context: Context) -> Context:
    """Replace what changes in place by copies, so that nobody else sees what a task does to it."""
    for variable, value in context.items():
        if variable.name in _MODULES and type(value).__module__ in _CHANGING:
            context.run(variable.set, value.copy())
    return context


def own_context() -> Context:
    """Return a copy of the calling thread's context, as a task gets it."""
    return make_own(copy_context())


def lay_under(context: Context, base: Context) -> None:
    """Give `context` the variables of `base` that it has not, for a task to run in.

    Args:
        context: the submitter's variables.
        base: what an initializer has set for the tasks of its thread.
    """
    for variable, value in base.items():
        if variable not in context:
            context.run(variable.set, value)
    make_own(context)


def is_setting(variable: ContextVar[Any]) -> bool:
    """Say whether a variable is one of those that this module sends."""
    return variable.name in _MODULES


def dump(variable: ContextVar[Any], value: Any) -> Sent | None:
    """Pickle a setting; None if it stays behind."""
    module = _MODULES[variable.name]
    if module == "numpy":
        numpy = sys.modules["numpy"]
        value = (numpy.geterr(), numpy.geterrcall(), numpy.getbufsize())
    elif module == "gmpy2":
        value = {name: getattr(value, name) for name in _gmpy2_names(value)}
    text = repr(value)
    last = _last_sent.get(module)
    if last is None or last[0] != text:
        try:
            last = (text, pickle.dumps(value, 5))
        except Exception:
            return None  # a handler of errors that no other process could import
        _last_sent[module] = last
    return module, last[1]


def apply(sent: Sent) -> bool:
    """Set in the current context what `dump` has pickled; later, if its module is not there yet.

    Returns:
        Whether it has been set.
    """
    module, data = sent
    if module == "decimal":
        import decimal

        decimal.setcontext(pickle.loads(data))
    elif module in sys.modules:
        _LOADERS[module](pickle.loads(data))
    else:
        _awaited.set((*_awaited.get(), sent))
        if module not in _watched:
            from manyhands._interpreter import import_watch

            _watched.add(module)
            import_watch.after_import(module, lambda: _apply_awaited(module))
        return False
    return True


def _apply_awaited(module: str) -> None:
    for sent in _awaited.get():
        if sent[0] == module:
            apply(sent)


def _load_numpy(value: tuple[dict[str, str], object, int]) -> None:
    numpy = sys.modules["numpy"]
    handling, call, size = value
    numpy.seterr(**handling)
    numpy.seterrcall(call)
    numpy.setbufsize(size)


def _load_gmpy2(value: dict[str, Any]) -> None:
    gmpy2 = sys.modules["gmpy2"]
    context = gmpy2.context()
    for name, setting in value.items():
        setattr(context, name, setting)
    gmpy2.set_context(context)


def _gmpy2_names(context: object) -> list[str]:
    """Names of the settings that a gmpy2 context has: its data, without its operations."""
    names = [name for name in dir(context) if not name.startswith("_")]
    return [name for name in names if isinstance(getattr(context, name), (bool, int))]


_LOADERS: dict[str, Callable[[Any], None]] = {"numpy": _load_numpy, "gmpy2": _load_gmpy2}
