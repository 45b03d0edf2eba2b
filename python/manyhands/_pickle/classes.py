"""Classes that travel by value: set up where they arrive, and left alone where they come from."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from cloudpickle import cloudpickle

__all__ = ["leave_own_alone"]

# Those that came here by value, and those that went from here.
_arrived: WeakSet[type] = WeakSet()
_own: WeakSet[type] = WeakSet()


def leave_own_alone(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return how to pickle a class, such that the program that it is of does not change its own.

    What comes back from a worker has that worker's version of the class, whose methods have globals
    of their own: in the program, they would use copies of its globals from then on.

    Args:
        cls: the class.
        reduced: how cloudpickle pickles it.
    """
    if cls not in _arrived:
        _own.add(cls)
    return *reduced[:5], _set_state


def _set_state(cls: type, state: Any) -> None:
    if cls not in _own:
        _arrived.add(cls)
        cloudpickle._class_setstate(cls, state)
