"""ctypes objects in shared memory, with a lock beside them: Value and Array.

They have the interface of `multiprocessing.Value` and `multiprocessing.Array`, and their classes
extend those of `multiprocessing.sharedctypes`. They pickle as their address in memory, so that
processes of every start method and tasks can have them.
"""

from __future__ import annotations

import ctypes
import multiprocessing.sharedctypes
import weakref
from operator import index
from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._memory.named_block import known_block, named_block

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Array", "Value"]

# The published types leave out half of this module.
sharedctypes: Any = multiprocessing.sharedctypes


def Value(
    typecode_or_type: Any = None, *args: Any, lock: Any = True, name: str | None = None
) -> Any:
    """Make a number, character or structure in shared memory, as `multiprocessing.Value`.

    Args:
        typecode_or_type: a ctypes type, or a one-letter code as the `array` module has them.
        args: what the type is called with.
        lock: True for a new `RLock` that guards each access; a lock object to be used instead;
            False for the bare ctypes object, which nothing guards.
        name: makes it one value for all processes of this user that give the same name. It is gone
            when none of them has it any more. The first one makes it, with `args`; the others find
            it as it is, and need not say its type. Its lock is named, too.

    Returns:
        An object with ``value`` (or the fields of a structure), ``get_lock()``, ``get_obj()``,
        ``acquire()`` and ``release()``, and a context manager of its lock. ``x.value += 1`` is two
        accesses: put it in ``with x.get_lock():``. If a process dies while it has the lock, the
        next one gets it.

    Raises:
        TypeError: there is no such type; neither type nor name.
        FileNotFoundError: no type, and there is no value of that name.
        ValueError: what has that name is no value of that type.
        AttributeError: ``lock`` is no lock.
        MemoryError: there is no room in shared memory.

    Example:
        >>> counter = mh.Value("i", 7)
        >>> with counter.get_lock():
        ...     counter.value += 1
        >>> counter.value
        8
    """
    if typecode_or_type is None:
        return _known("Value", name, lock)
    kind = _type_of(typecode_or_type)
    if name is not None:
        return _named("Value", name, kind(*args), lock)
    made = _place(kind)
    made.__init__(*args)
    return _guarded(made, lock)


def Array(
    typecode_or_type: Any = None,
    size_or_initializer: int | Sequence[Any] | None = None,
    *,
    lock: Any = True,
    name: str | None = None,
) -> Any:
    """Make an array of numbers, characters or structures in shared memory.

    As `multiprocessing.Array`. For NumPy there is `SharedArray`.

    Args:
        typecode_or_type: the type of an element, as in `Value`.
        size_or_initializer: the number of elements, which are zero then; or the elements.
        lock, name: as in `Value`. Opening one by its name needs neither type nor size.

    Returns:
        An object that has a length, elements and slices, ``get_lock()`` and ``get_obj()``; with
        characters also ``value`` and ``raw``.

    Raises:
        TypeError, FileNotFoundError, AttributeError, MemoryError: as `Value`.
        ValueError: a negative size; what has that name is no array of that type and size.

    Example:
        >>> squares = mh.Array("i", 4)
        >>> squares[:] = [0, 1, 4, 9]
        >>> squares[2], len(squares)
        (4, 4)
    """
    if typecode_or_type is None or (size_or_initializer is None and name is not None):
        return _known("Array", name, lock, typecode_or_type)
    if size_or_initializer is None:
        raise TypeError("Array() needs the number of elements, or the elements")
    element = _type_of(typecode_or_type)
    if not hasattr(size_or_initializer, "__len__") and hasattr(size_or_initializer, "__index__"):
        size_or_initializer = index(size_or_initializer)  # of NumPy, for one
    if name is not None:
        if isinstance(size_or_initializer, int):
            return _named("Array", name, (element * size_or_initializer)(), lock)
        elements = (element * len(size_or_initializer))(*size_or_initializer)
        return _named("Array", name, elements, lock)
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
        # The first words are those of `multiprocessing.sharedctypes`.
        raise TypeError(f"bad typecode: {_no_type(typecode_or_type)}") from None
    return kind


def _no_type(said: object) -> str:
    codes = "".join(sharedctypes.typecode_to_type)
    return f"{said!r} is neither a ctypes type nor one of the codes {codes}"


def _named(what: str, name: str, content: Any, lock: Any) -> Any:
    """Return the object of that name; a copy of `content` if it is made now."""
    kind = type(content)
    size = ctypes.sizeof(kind)
    block = named_block(name, what, f"of {_text(kind)}", _described(kind), size, bytes(content))
    return _guarded(_over(kind, block), lock, name)


def _known(what: str, name: str | None, lock: Any, element: Any = None) -> Any:
    """Return the object that somebody has made with that name."""
    needed = "its type" if what == "Value" else "its type and size"
    if name is None:
        raise TypeError(
            f"{what}() needs {needed}, or the name of an existing one; {_no_type(None)}"
        )
    block, described = known_block(name, what, needed)
    kind = _as_type(described)
    if element is not None and kind._type_ is not _type_of(element):
        asked = _text(_type_of(element))
        raise ValueError(f"the {what} named {name!r} is of {_text(kind)}, not of {asked}")
    return _guarded(_over(kind, block), lock, name)


def _text(kind: Any) -> str:
    """Return a ctypes type in words, the same in every program that has it."""
    if issubclass(kind, ctypes.Array):
        return f"{_text(kind._type_)}[{kind._length_}]"
    fields = getattr(kind, "_fields_", None)
    if fields is None:
        return str(kind.__name__)
    each = ", ".join(f"{field[0]}: {_text(field[1])}" for field in fields)
    return f"{kind.__module__}.{kind.__qualname__}({each})"


def _guarded(made: Any, lock: Any, name: str | None = None) -> Any:
    if lock is False:
        return made
    if lock in (True, None):  # as multiprocessing asks it: 1 will do
        from manyhands._sync.lock import RLock

        lock_name = None if name is None else f"lock of {name}"
        lock = RLock(name=lock_name, on_owner_died="acquire")
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
    """Return what a ctypes object holds, in few words."""
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
        placed = _placed_types.setdefault(kind, placed)  # another thread may have been faster
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
    """Return a ctypes type in a form that pickles: types of arrays have no name to be found by."""
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
        name = f" named {self.name!r}" if self.name else ""
        return f"<{type(self).__name__} wrapper for {self._obj!r}{name}{_state(self._obj)}>"

    @property
    def name(self) -> str | None:
        """The name by which any process of this user can open it, or None."""
        block: _native.SharedBlock = self._obj._block
        return block.name


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
        guarded = type("Synchronized" + kind.__name__, bases, fields)
        guarded = _structures.setdefault(kind, guarded)  # another thread may have been faster
    return guarded(made, lock)
