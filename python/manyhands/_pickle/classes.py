"""Classes that travel by value: set up where they arrive, and left alone where they come from.

cloudpickle first makes an empty class of the same bases, then fills it. Here the empty one has the
slots of the original, and is made without ``__init_subclass__``: what that has done to the class
goes along with it, and the arguments that it takes are not known any more.
"""

from __future__ import annotations

from _thread import RLock
from contextlib import ExitStack, contextmanager
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from cloudpickle import cloudpickle

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["prepare"]

# Those that came here by value, and those that went from here.
_arrived: WeakSet[type] = WeakSet()
_own: WeakSet[type] = WeakSet()
_making = RLock()


def prepare(cls: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return how to pickle a class, such that the program that it is of does not change its own.

    What comes back from a worker has that worker's version of the class, whose methods have globals
    of their own: in the program, they would use copies of its globals from then on.

    Args:
        cls: the class.
        reduced: how cloudpickle pickles it.
    """
    if cls not in _arrived:
        _own.add(cls)
    make, arguments, state, *rest = reduced
    if make is cloudpickle._make_skeleton_class:
        kind, name, bases, given, *others = arguments
        make, arguments = _make, (kind, name, bases, given | _slots_of(cls), *others)
    attributes, slots = state
    # Those that the slots make themselves, under names that cloudpickle does not know.
    attributes = {
        name: value
        for name, value in attributes.items()
        if not isinstance(value, MemberDescriptorType) or value.__objclass__ is not cls
    }
    return make, arguments, (attributes, slots), *rest[:2], _set_state


def _slots_of(cls: type) -> dict[str, tuple[str, ...]]:
    """Return the slots of a class by the names that they have, as a part of its namespace."""
    own = vars(cls)
    # A NamedTuple sees to its slots itself, and refuses to be told.
    if "__slots__" not in own or NamedTuple in own.get("__orig_bases__", ()):
        return {}
    names = [
        name
        for name, value in own.items()
        if isinstance(value, MemberDescriptorType) and value.__objclass__ is cls
    ]
    special = [name for name in ("__dict__", "__weakref__") if name in own]
    return {"__slots__": (*sorted(names), *special)}


def _make(
    kind: type, name: str, bases: tuple[Any, ...], given: dict[str, Any], identity: str, extra: Any
) -> type:
    """Make the empty class, unless it is here already."""
    with cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
        known: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(identity)
    if known is not None:
        return known
    with _making, _silent(bases):
        made: type = cloudpickle._make_skeleton_class(kind, name, bases, given, identity, extra)
    return made


@contextmanager
def _silent(bases: tuple[Any, ...]) -> Iterator[None]:
    """Have no ``__init_subclass__`` called of classes that came by value, too."""
    with ExitStack() as stack:
        for base in {base for each in bases for base in getattr(each, "__mro__", ())}:
            usual = vars(base).get("__init_subclass__")
            if usual is not None and base in _arrived:
                type.__setattr__(base, "__init_subclass__", classmethod(_do_nothing))
                stack.callback(type.__setattr__, base, "__init_subclass__", usual)
        yield


def _do_nothing(cls: type, /, **_: object) -> None:
    pass


def _set_state(cls: type, state: Any) -> None:
    if cls not in _own:
        _arrived.add(cls)
        cloudpickle._class_setstate(cls, state)
