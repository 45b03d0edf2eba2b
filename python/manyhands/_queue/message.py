"""Pickles and their buffers in one message.

In this order: the number of buffers and the length of the pickle; for each buffer its length and
whether it is read-only (64 bits each, in the machine's byte order); the pickle; the buffers.
"""

from __future__ import annotations

import struct

from manyhands._pickle import pickling

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__ = ["load"]

_PAIR = struct.Struct("=QQ")


def load(message: bytearray) -> Any:
    """Load the pickle of a message, whose buffers become parts of the message itself.

    Args:
        message: what a queue or pipe received; it belongs to the loaded object from now on.

    Raises:
        ValueError: the lengths in the message are not those of its parts.
        Exception: whatever the pickled objects raise while they are unpickled.
    """
    view = memoryview(message)
    try:
        count, length = _PAIR.unpack_from(view)
        table = list(_PAIR.iter_unpack(view[_PAIR.size : _PAIR.size * (1 + count)]))
    except struct.error:
        count, length, table = 0, 0, []
    at = _PAIR.size * (1 + count)
    if len(table) != count or at + length + sum(size for size, _ in table) != len(view):
        raise ValueError("a message of a pickle and its buffers has been damaged")
    pickle = view[at : at + length]
    at += length
    buffers = []
    for size, read_only in table:
        part = view[at : at + size]
        buffers.append(part.toreadonly() if read_only else part)
        at += size
    return pickling.loads(pickle, buffers)
