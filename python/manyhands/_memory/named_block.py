"""Shared memory that processes find by its name, and what its maker says of it."""

from __future__ import annotations

import pickle
from typing import Any
from zlib import crc32

from manyhands import _native

__all__ = ["known_block", "named_block"]


def named_block(
    name: str, what: str, text: str, spec: object, length: int, content: bytes = b""
) -> _native.SharedBlock:
    """Make the block of this name, or open it, if it is what is asked for.

    Args:
        name: its name.
        what: the class or function that users call for it.
        text: what it holds, in words: the same for all who may share it.
        spec: from which `known_block` lets others open it; it is pickled, if that is possible.
        length: its bytes.
        content: what it begins with if it is made.

    Raises:
        ValueError: what has that name is something else.
        MemoryError, OSError: there is no shared memory, or no descriptor.
    """
    try:
        pickled = pickle.dumps(spec, 5)
    except Exception:  # a type that only this program has; others can say the same
        pickled = b""
    description = pickle.dumps((what, text, pickled), 5)
    try:
        return _native.named_shared(
            name, length, crc32(f"{what} {text}".encode()), content, description
        )
    except ValueError:
        other = _native.open_named_shared(name)
        if other is None:
            raise
        raise _refusal(name, f"{what} {text}", other.description()) from None


def known_block(name: str, what: str, needed: str) -> tuple[_native.SharedBlock, Any]:
    """Open the block that somebody has made with this name.

    Returns:
        the block, and its maker's ``spec``.

    Raises:
        FileNotFoundError: there is none; `needed` tells what to say to make one.
        ValueError: it is something else, or of a type that is not found here.
    """
    block = _native.open_named_shared(name)
    if block is None:
        raise FileNotFoundError(
            f"no process has a {what} named {name!r}: pass {needed} to create it"
        )
    description = block.description()
    is_, text, pickled = pickle.loads(description)
    if is_ != what:
        raise _refusal(name, f"a {what}", description)
    try:
        return block, pickle.loads(pickled)
    except Exception as error:
        raise ValueError(f"the {what} named {name!r} holds {text}: pass {needed}") from error


def _refusal(name: str, wanted: str, description: bytes) -> ValueError:
    is_, text, _ = pickle.loads(description)
    return ValueError(f"the object named {name!r} is {is_} {text}, not {wanted}")
