"""What travels by value and cloudpickle does not know how to take apart, or takes apart wrongly."""

from __future__ import annotations

import functools
import pickle
import sys
import typing
from collections.abc import Callable
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any

from manyhands._interpreter import late
from manyhands._pickle import findable
from manyhands._pickle.constants import is_importable

__all__ = ["reduce_definition"]

_Registered = list[tuple[type, Callable[..., Any]]]

_SINGLE_DISPATCH = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]
# What pickles as its name in its module, and is not found there by another process.
_NAMED = tuple(
    getattr(typing, name)
    for name in ("NewType", "ParamSpec", "TypeVarTuple", "TypeAliasType")
    if hasattr(typing, name)
)
# What `functools.singledispatchmethod` binds to an instance: a function up to Python 3.13.
_BOUND_DISPATCH = getattr(functools, "_singledispatchmethod_get", None)
_BOUND_DISPATCH_CODE: Any = getattr(
    functools.singledispatchmethod(lambda _: None).__get__(None, object), "__code__", None
)


def reduce_definition(obj: Any) -> Any:
    """Say how to pickle an object by value, or NotImplemented if it is none of these."""
    kind = type(obj)
    reduce = _REDUCERS.get(kind)
    if reduce is not None:
        return reduce(obj)
    if "ctypes" in sys.modules:
        # Imported only where the program has done so: libffi may keep a descriptor from then on,
        # which a program that has run out of them lacks for what comes after.
        reduced = late.module("manyhands._pickle.foreign").reduce_foreign(obj)
        if reduced is not NotImplemented:
            return reduced
    if _is_event_loop(obj):
        # Before its sockets are asked, which multiprocessing would set out to hand over.
        raise TypeError(
            f"cannot pickle {kind.__name__!r} object: an event loop belongs to its thread"
        )
    return NotImplemented


def _reduce_function(function: Any) -> Any:
    if function.__code__ is _SINGLE_DISPATCH and not is_importable(function):
        return _single_dispatch, _registered(function)
    if function.__code__ is _BOUND_DISPATCH_CODE:
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        bound = cells["obj"].cell_contents, cells["cls"].cell_contents
        return _bound_dispatch, (function.register.__self__, *bound)
    return NotImplemented


def _reduce_lru_cache(function: Any) -> Any:
    if is_importable(function):
        return NotImplemented
    return _lru_cache, (function.__wrapped__, *function.cache_parameters().values())


def _reduce_code(code: CodeType) -> Any:
    """Pickle code with the name of its file, without which a traceback shows no source line."""
    # Tuples and names of its own, as those of the code may be shared with other objects: that would
    # make another pickle of the same function, which then counts as another function.
    parts = (
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals),
        *(code.co_stacksize, code.co_flags, code.co_code, code.co_consts),
        *((*code.co_names,), (*code.co_varnames,), code.co_filename, "".join(code.co_name)),
        *(code.co_qualname, code.co_firstlineno, code.co_linetable, code.co_exceptiontable),
        *((*code.co_freevars,), (*code.co_cellvars,)),
    )
    return CodeType, parts


def _is_event_loop(obj: object) -> bool:
    events = sys.modules.get("asyncio.events")
    return events is not None and isinstance(obj, events.AbstractEventLoop)


def _lru_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _registered(function: Any) -> tuple[Callable[..., Any], _Registered]:
    """Return the default of a single-dispatch function, and what is registered besides."""
    registry = dict(function.registry)
    return registry.pop(object), list(registry.items())


def _single_dispatch(default: Callable[..., Any], registered: _Registered) -> Any:
    function = functools.singledispatch(default)
    for cls, implementation in registered:
        function.register(cls, implementation)
    return function


def _single_dispatch_method(default: Callable[..., Any], registered: _Registered) -> Any:
    method = functools.singledispatchmethod(default)
    for cls, implementation in registered:
        method.dispatcher.register(cls, implementation)
    return method


def _bound_dispatch(method: Any, instance: object, owner: type | None) -> Any:
    return method.__get__(instance, owner)


def _cached_property(function: Callable[..., Any], name: str | None) -> Any:
    made = functools.cached_property(function)
    if name is not None:
        made.__set_name__(object, name)
    return made


def _partial_method(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return functools.partialmethod(function, *args, **keywords)


def _reduce_named(obj: Any) -> Any:
    module = obj.__module__
    found = getattr(sys.modules.get(module), obj.__name__, None)
    if found is obj and module != "__main__" and findable.is_found(module):
        return NotImplemented
    kind = type(obj).__name__
    if kind == "NewType":
        parts: tuple[Any, ...] = (obj.__supertype__,)
    elif kind == "TypeAliasType":
        parts = (obj.__value__, obj.__type_params__)
    else:
        parts = ()
    return _named, (kind, getattr(obj, "__qualname__", obj.__name__), module, *parts)


def _named(kind: str, name: str, module: str, *parts: Any) -> Any:
    make = getattr(typing, kind)
    if kind == "TypeAliasType":
        value, parameters = parts
        options = {"type_params": parameters}
        short = name.rpartition(".")[2]
        if short != name:  # which it knows from 3.15 on
            options["qualname"] = name
        # It is of the module of whoever calls this, for good until 3.14.
        caller = {"__name__": module, "make": make, "arguments": (short, value), "options": options}
        return eval("make(*arguments, **options)", caller)
    made = make(name, *parts)
    with suppress(AttributeError):  # some say for good which module has made them
        made.__module__ = module
    return made


def _reduce_memoryview(view: memoryview) -> Any:
    # cloudpickle would make bytes of it, whose items are other numbers than the view's.
    if len(view.format.removeprefix("@")) != 1:
        raise TypeError(f"cannot pickle a memoryview with items of the format {view.format!r}")
    content = view if view.c_contiguous else memoryview(bytearray(view.tobytes()))
    shape = None if view.ndim == 1 else view.shape
    return _view, (pickle.PickleBuffer(content), view.format, shape, view.readonly)


def _view(content: Any, layout: str, shape: tuple[int, ...] | None, readonly: bool) -> memoryview:
    octets = memoryview(content).cast("B")
    # A view of bytes takes other items or other dimensions, one at a time.
    flat = octets if layout == "B" else octets.cast(layout)  # type: ignore[call-overload]
    view: memoryview = flat if shape is None else octets.cast(layout, shape)  # type: ignore[call-overload]
    return view.toreadonly() if readonly else view


_REDUCERS: dict[type | None, Callable[[Any], Any]] = {
    FunctionType: _reduce_function,
    CodeType: _reduce_code,
    memoryview: _reduce_memoryview,
    functools._lru_cache_wrapper: _reduce_lru_cache,
    functools.singledispatchmethod: lambda method: (
        _single_dispatch_method,
        (method.func, _registered(method.dispatcher)[1]),
    ),
    _BOUND_DISPATCH: lambda bound: (_bound_dispatch, (bound._unbound, bound._obj, bound._cls)),
    functools.cached_property: lambda cached: (_cached_property, (cached.func, cached.attrname)),
    functools.partialmethod: lambda method: (
        _partial_method,
        (method.func, method.args, method.keywords),
    ),
    **dict.fromkeys(_NAMED, _reduce_named),
}
