"""Pickling by value: what a worker could not import travels as its definition.

Imported only when something needs it, because cloudpickle costs about 15 ms to import.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from contextvars import ContextVar
from itertools import count
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import cloudpickle

from manyhands._pickle import classes, definitions, findable, shared_globals, variables

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 5


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, with globals that functions share, and more that it can take apart.

    Attributes:
        place: asked first how to pickle an object; for large ones that go to many tasks.
        needed: the globals that the pickled functions need, by module and name.
        shares: whether there are such functions.
    """

    def __init__(self, target: io.BytesIO, **options: Any) -> None:
        # What multiprocessing knows to hand to another process: sockets, connections, and what
        # other packages have registered with it. The C pickler looks for the table only once.
        reduction = sys.modules.get("multiprocessing.reduction")
        if reduction is not None:
            reducers = reduction.ForkingPickler._extra_reducers
            self.dispatch_table: Any = ChainMap(reducers, *super().dispatch_table.maps)
        self.place: Callable[[object], Any] | None = None
        self.needed: dict[tuple[str, str], Any] = {}
        self.shares = False
        super().__init__(target, protocol=PROTOCOL, **options)

    def reducer_override(self, obj: object) -> Any:
        """How to pickle ``obj``, or NotImplemented to leave it to the C pickler."""
        if self.place is not None:
            placed = self.place(obj)
            if placed is not NotImplemented:
                return placed
        if isinstance(obj, ContextVar):
            return variables.reduce_variable(obj)
        if isinstance(obj, io.TextIOWrapper):
            return _reduce_text_file(obj)
        reduced = definitions.reduce_definition(obj)
        if reduced is not NotImplemented:
            return reduced
        if isinstance(obj, FunctionType | type | ModuleType) and _is_by_value(obj):
            return self._reduce_by_value(obj)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) > 2:
            return classes.prepare(obj, reduced)
        return reduced

    def _reduce_by_value(self, obj: FunctionType | type | ModuleType) -> Any:
        if isinstance(obj, FunctionType):
            return self._dynamic_function_reduce(obj)
        if isinstance(obj, type):
            reduced = cloudpickle.cloudpickle._dynamic_class_reduce(obj)
            make, arguments, *rest = classes.prepare(obj, reduced)
            return shared_globals.made, (obj.__module__, make, *arguments), *rest
        state = {name: value for name, value in vars(obj).items() if name != "__builtins__"}
        return cloudpickle.cloudpickle.dynamic_subimport, (obj.__name__, state)

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        make, arguments, state, *rest = super()._dynamic_function_reduce(func)
        module = func.__globals__.get("__name__")
        home = sys.modules.get(module) if isinstance(module, str) else None
        if not isinstance(module, str) or getattr(home, "__dict__", None) is not func.__globals__:
            return make, arguments, state, *rest
        self.shares = True
        code, _, *others = arguments
        attributes, slots = state
        for name, value in slots["__globals__"].items():
            self.needed[module, name] = value
        slots["__globals__"] = {}
        return make, (code, _Namespace(module), *others), (attributes, slots), *rest


class _Namespace:
    """Pickles as the globals that functions of a module share where they are loaded."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[object, ...]:
        return shared_globals.namespace, (self.module,)


class _Carried:
    """Pickles as an object together with the globals that its functions need."""

    def __init__(
        self, entries: list[shared_globals.Entry], data: bytes, buffers: list[pickle.PickleBuffer]
    ) -> None:
        self.parts = (entries, data, buffers)

    def __reduce__(self) -> tuple[object, ...]:
        return shared_globals.load, self.parts


def _is_by_value(obj: FunctionType | type | ModuleType) -> bool:
    """Say whether an object that cloudpickle would send by name is not found so elsewhere."""
    name = obj.__name__ if isinstance(obj, ModuleType) else getattr(obj, "__module__", None)
    if not isinstance(name, str) or name == "__main__":
        return False
    return not findable.is_found(name)


_versions = count(1)


def _reduce_text_file(file: io.TextIOWrapper) -> tuple[object, ...]:
    """Pickle a standard stream as the receiver's own, and refuse every other file.

    cloudpickle would read the file and send a copy: later writes are lost, and the copy of a
    temporary file deletes the original.
    """
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    raise TypeError(
        f"cannot pickle {type(file).__name__!r} object: an open file belongs to its process; "
        "pass its path or its text"
    )


def dumps(
    obj: object, place: Callable[[object], Any] | None = None
) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """As ``pickling.dumps``, always by value where there is a choice.

    Args:
        obj: any picklable object.
        place: as `ValuePickler.place`.
    """
    buffers: list[pickle.PickleBuffer] = []
    data, own, pickler = _dump(obj, False, place)
    if not pickler.shares:
        return data, own
    carried = _Carried(_entries(pickler.needed, False, place), data, own)
    return pickle.dumps(carried, PROTOCOL, buffer_callback=buffers.append), buffers


def dumps_in_band(obj: object) -> bytes:
    """As ``dumps``, with every buffer copied into the pickle itself."""
    data, _, pickler = _dump(obj, True)
    if not pickler.shares:
        return data
    return pickle.dumps(_Carried(_entries(pickler.needed, True), data, []), PROTOCOL)


def _dump(
    obj: object, in_band: bool, place: Callable[[object], Any] | None = None
) -> tuple[bytes, list[pickle.PickleBuffer], ValuePickler]:
    buffers: list[pickle.PickleBuffer] = []
    target = io.BytesIO()
    pickler = ValuePickler(target, buffer_callback=None if in_band else buffers.append)
    pickler.place = place
    pickler.dump(obj)
    return target.getvalue(), buffers, pickler


def _entries(
    needed: dict[tuple[str, str], Any],
    in_band: bool,
    place: Callable[[object], Any] | None = None,
) -> list[shared_globals.Entry]:
    """Pickle globals, and those that they need in turn.

    What one needs comes before it, except in a circle: to make an object may take functions of the
    program's, as a metaclass's are, which look for globals.
    """
    entries: list[shared_globals.Entry] = []
    done = set()
    under_way: list[tuple[shared_globals.Entry | None, list[tuple[tuple[str, str], Any]]]]
    under_way = [(None, list(needed.items()))]
    while under_way:
        entry, others = under_way[-1]
        if others:
            key, value = others.pop()
            if key not in done:
                done.add(key)
                data, buffers, pickler = _dump(value, in_band, place)
                digest = None if buffers else hash(data)
                new = (*key, next(_versions), digest, data, list(buffers))
                under_way.append((new, list(pickler.needed.items())))
        else:
            under_way.pop()
            if entry is not None:
                entries.append(entry)
    return entries
