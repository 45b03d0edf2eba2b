"""What ctypes describes: structures, unions, arrays, pointers, libraries and their functions.

Imported only where ctypes is: only there can such objects be.
"""

from __future__ import annotations

import ctypes
from typing import Any

from cloudpickle import cloudpickle

from manyhands._pickle.constants import is_importable

__all__ = ["reduce_foreign"]

# Its metaclasses.
_COMPOUND = (type(ctypes.Structure), type(ctypes.Union))
_ARRAY = type(ctypes.c_int * 1)
_POINTER = type(ctypes.POINTER(ctypes.c_int))
_FUNCTION = type(ctypes.CFUNCTYPE(None))
_CLASSES = (*_COMPOUND, _ARRAY, _POINTER)


def reduce_foreign(obj: Any) -> Any:
    """Say how to pickle an object by value, or NotImplemented if it is nothing of ctypes."""
    kind = type(obj)
    if kind in _CLASSES:
        return _reduce_class(obj)
    if type(kind) is _FUNCTION:
        return _reduce_function(obj)
    if isinstance(obj, ctypes.CDLL):
        return _reduce_library(obj)
    return NotImplemented


def _reduce_class(cls: Any) -> Any:
    if is_importable(cls):
        return NotImplemented
    if type(cls) is _ARRAY:
        return _array, (cls._type_, cls._length_)
    if type(cls) is _POINTER:
        return ctypes.POINTER, (cls._type_,)
    fields = {field[0] for field in cls.__dict__.get("_fields_", ())}
    made = {"__dict__", "__weakref__"}
    names = {
        name: value
        for name, value in cls.__dict__.items()
        if name not in fields and name not in made and not name.startswith("__pyx_")
    }
    tracked = cloudpickle._get_or_create_tracker_id(cls)
    return _compound, (tracked, cls.__name__, cls.__bases__, names)


def _array(kind: Any, length: int) -> Any:
    return kind * length


def _compound(tracked: str, name: str, bases: tuple[type, ...], names: dict[str, Any]) -> Any:
    # Once per process: instances of one class must be of one class here, too.
    known = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracked)
    if known is not None:
        return known
    return cloudpickle._lookup_class_or_track(tracked, type(bases[0])(name, bases, names))


def _reduce_library(library: Any) -> Any:
    """Pickle a loaded library as its name, and what its functions were told to take and return."""
    functions = [
        (name, *_signature(value))
        for name, value in vars(library).items()
        if type(type(value)) is _FUNCTION
    ]
    return _library, (type(library), library._name, functions)


def _reduce_function(function: Any) -> Any:
    library = (function._objects or {}).get("0")
    if not isinstance(library, ctypes.CDLL):
        return NotImplemented  # a pointer, which pickle refuses
    names = type(library), library._name
    return _foreign_function, (*names, function.__name__, *_signature(function))


def _signature(function: Any) -> tuple[Any, Any, Any]:
    return function.restype, function.argtypes, getattr(function, "errcheck", None)


def _library(kind: Any, name: str | None, functions: list[tuple[Any, ...]]) -> Any:
    library = kind(name)
    for function, *signature in functions:
        _sign(getattr(library, function), *signature)
    return library


def _foreign_function(kind: Any, library: str | None, name: str, *signature: Any) -> Any:
    return _sign(kind(library)[name], *signature)


def _sign(function: Any, result: Any, arguments: Any, check: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    if check is not None:
        function.errcheck = check
    return function
