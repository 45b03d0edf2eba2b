"""Pickling by value: what a worker could not import travels as its definition.

Imported only when something needs it, because cloudpickle costs about 15 ms to import.
"""

from __future__ import annotations

import io
import sys
from collections import ChainMap
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import cloudpickle

from manyhands import _context

if TYPE_CHECKING:
    import pickle

PROTOCOL = 5


class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, which moreover lets functions refer to context variables."""

    def __init__(self, target: io.BytesIO, **options: Any) -> None:
        # What multiprocessing knows to hand to another process: sockets, connections, and what
        # other packages have registered with it. The C pickler looks for the table only once.
        reduction = sys.modules.get("multiprocessing.reduction")
        if reduction is not None:
            reducers = reduction.ForkingPickler._extra_reducers
            self.dispatch_table: Any = ChainMap(reducers, *super().dispatch_table.maps)
        super().__init__(target, protocol=PROTOCOL, **options)

    def reducer_override(self, obj: object) -> Any:
        """How to pickle ``obj``, or NotImplemented to leave it to the C pickler."""
        if isinstance(obj, ContextVar):
            return _context.reduce_variable(obj)
        if isinstance(obj, io.TextIOWrapper):
            return _reduce_text_file(obj)
        return super().reducer_override(obj)


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


def dumps(obj: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    """As ``_pickling.dumps``, always by value where there is a choice."""
    buffers: list[pickle.PickleBuffer] = []
    target = io.BytesIO()
    ValuePickler(target, buffer_callback=buffers.append).dump(obj)
    return target.getvalue(), buffers


def dumps_in_band(obj: object) -> bytes:
    """As ``dumps``, with every buffer copied into the pickle itself."""
    target = io.BytesIO()
    ValuePickler(target).dump(obj)
    return target.getvalue()
