"""ctypes objects in shared memory, with a lock beside them: Value and Array.

They have the interface of `multiprocessing.Value` and `multiprocessing.Array`, and their classes
extend those of `multiprocessing.sharedctypes`. They pickle as their address in memory, so that
processes of every start method and tasks can have them.
"""

from __future__ import annotations

import ctypes
import multiprocessing.sharedctypes
import weakref
from typing import TYPE_CHECKING, Any

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Array", "Value"]

# The published types leave out half of this module.
sharedctypes: Any = multiprocessing.sharedctypes


def Value(typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
    """Make a number, character or structure in shared memory, as `multiprocessing.Value`.

    Args:
        typecode_or_type: a ctypes type, or a one-letter code as the `array` module has them.
        args: what the type is called with.
        lock: True for a new `RLock` that guards each access; a lock object to be used instead;
            False for the bare ctypes object, which nothing guards.

    Returns:
        An object with ``value`` (or the fields of a structure), ``get_lock()``, ``get_obj()``,
        ``acquire()`` and ``release()``, and a context manager of its lock. ``x.value += 1`` is two
        accesses: put it in ``with x.get_lock():``. If a process dies while it has the lock, the
        next one gets it.

    Raises:
        TypeError: there is no such type.
        AttributeError: ``lock`` is no lock.
        MemoryError: there is no room in shared memory.

    Example:
        >>> counter = mh.Value("i", 7)
        >>> with counter.get_lock():
        ...     counter.value += 1
        >>> counter.value
        8
    """
    made = _place(_type_of(typecode_or_type))
    made.__init__(*args)
    return _guarded(made, lock)


def Array(
    typecode_or_type: Any, size_or_initializer: int | Sequence[Any], *, lock: Any = True
) -> Any:
    """Make an array of numbers, characters or structures in shared memory.

    As `multiprocessing.Array`. For NumPy there is `SharedArray`.

    Args:
        typecode_or_type: the type of an element, as in `Value`.
        size_or_initializer: the number of elements, which are zero then; or the elements.
        lock: as in `Value`.

    Returns:
        An object that has a length, elements and slices, ``get_lock()`` and ``get_obj()``; with
        characters also ``value`` and ``raw``.

    Raises:
        TypeError, AttributeError, MemoryError: as `Value`.
        ValueError: a negative size.

    Example:
        >>> squares = mh.Array("i", 4)
        >>> squares[:] = [0, 1, 4, 9]
        >>> squares[2], len(squares)
        (4, 4)
    """
    element = _type_of(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _guarded(_place(element * size_or_initializer), lock)
    made = _place(element * len(size_or_initializer))
    made.__init__(*size_or_initializer)
    return _guarded(made, lock)


def _type_of(typecode_or_type: Any) -> Any:
    kind = sharedctypes.typecode_to_type.get(typecode_or_type, typecode_or_type)
    try:
        ctypes.sizeof(kind)
    except TypeError:
        codes = "".join(sharedctypes.typecode_to_type)
        raise TypeError(
            f"{typecode_or_type!r} is neither a ctypes type nor one of the codes {codes}"
        ) from None
    return kind


def _guarded(made: Any, lock: Any) -> Any:
    if lock is False:
        return made
    if lock is True or lock is None:
        from manyhands._lock import RLock

        lock = RLock(on_owner_died="acquire")
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return _synchronized(made, lock)


# ---------------------------------------------------------------------- the objects in memory


class _Placed:
    """What a ctypes object gets on top of its type when it lies in shared memory."""

    _block: _native.SharedBlock

    def __reduce_ex__(self, protocol: Any) -> Any:
        kind = type(self).__bases__[1]
        return (_open, (_described(kind), self._block.address))


def _state(made: Any) -> str:
    """What a ctypes object holds, in few words."""
    if isinstance(made, ctypes._SimpleCData):
        return f": value={made.value!r}"
    if isinstance(made, ctypes.Array):
        return f": length={len(made)}"
    return ""


# ctypes type -> the same with `_Placed`.
_placed_types: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _placed_type(kind: Any) -> Any:
    placed = _placed_types.get(kind)
    if placed is None:
        # The name stays, so that messages and `Synchronized<name>` read as usual.
        placed = type(kind)(kind.__name__, (_Placed, kind), {"__module__": kind.__module__})
        _placed_types[kind] = placed
    return placed


def _place(kind: Any) -> Any:
    return _over(kind, _native.new_shared(ctypes.sizeof(kind)))


def _over(kind: Any, block: _native.SharedBlock) -> Any:
    made = _placed_type(kind).from_buffer(block.view(writable=True))
    made._block = block
    return made


def _open(described: Any, address: tuple[Any, ...]) -> Any:
    kind = _as_type(described)
    return _over(kind, _native.open_shared(address, ctypes.sizeof(kind)))


def _described(kind: Any) -> Any:
    """A ctypes type in a form that pickles: types of arrays have no name to be found by."""
    if issubclass(kind, ctypes.Array):
        return (_described(kind._type_), kind._length_)
    return kind


def _as_type(described: Any) -> Any:
    if isinstance(described, tuple):
        element, length = described
        return _as_type(element) * length
    return described


# ---------------------------------------------------------------------- the objects with a lock


def _field(name: str) -> property:
    """One access under the lock.

    The stdlib's own goes through `acquire`. A lock of ours that says `OwnerDied` there belongs to
    the caller, who would have to release it; as a context manager it is not kept.
    """

    def read(self: _Guarded) -> Any:
        with self._lock:
            return getattr(self._obj, name)

    def write(self: _Guarded, value: Any) -> None:
        with self._lock:
            setattr(self._obj, name, value)

    return property(read, write)


class _Guarded:
    """What the wrappers of `multiprocessing.sharedctypes` get, so that they pickle everywhere."""

    _obj: Any
    _lock: Any

    def __reduce__(self) -> Any:
        return (_synchronized, (self._obj, self._lock))

    def __repr__(self) -> str:
        # The first words are those of `multiprocessing.sharedctypes`.
        return f"<{type(self).__name__} wrapper for {self._obj!r}{_state(self._obj)}>"


class Synchronized(_Guarded, sharedctypes.Synchronized):  # type: ignore[misc]
    """A number or character in shared memory, and its lock."""

    value = _field("value")


class SynchronizedArray(_Guarded, sharedctypes.SynchronizedArray):  # type: ignore[misc]
    """An array in shared memory, and its lock."""


class SynchronizedString(_Guarded, sharedctypes.SynchronizedString):  # type: ignore[misc]
    """An array of characters in shared memory, and its lock."""

    value = _field("value")
    raw = _field("raw")


# Type of structure -> its class with a lock.
_structures: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _synchronized(made: Any, lock: Any) -> Any:
    if isinstance(made, ctypes.Array):
        characters = made._type_ is ctypes.c_char
        return (SynchronizedString if characters else SynchronizedArray)(made, lock)
    if isinstance(made, ctypes._SimpleCData):
        return Synchronized(made, lock)
    kind = type(made)
    guarded = _structures.get(kind)
    if guarded is None:
        fields = {field[0]: _field(field[0]) for field in kind._fields_}
        bases = (_Guarded, sharedctypes.SynchronizedBase)
        guarded = _structures[kind] = type("Synchronized" + kind.__name__, bases, fields)
    return guarded(made, lock)
