"""Pickles that are nothing but the name of a function or class: no unpickler is needed for them.

Most tasks are a function that is sent so, with plain arguments. To import `_pickle` takes longer
than all else that a new worker does before its first one.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__ = ["find"]

# Protocol 5 and a frame, whose length does not matter; then module and name, each a text of at most
# 255 bytes; and what makes an object of both.
_START = b"\x80\x05\x95"
_TEXTS_AT = 11
_SHORT_TEXT = 0x8C
_MEMOIZE = b"\x94"
_END = b"\x93\x94."
# Whatever is longer is more than a name, and not worth a copy.
_LONGEST = _TEXTS_AT + 2 * (2 + 255 + len(_MEMOIZE)) + len(_END)


def find(data: bytes | memoryview) -> Any:
    """Return the object that a pickle names; None if it is another pickle, or there is no such one.

    Args:
        data: a whole pickle.

    Raises:
        Exception: whatever the module raises while it is imported.

    Example:
        >>> import pickle
        >>> find(pickle.dumps(sys.exit, 5)) is sys.exit
        True
        >>> find(pickle.dumps("text", 5))
    """
    names = _names_in(bytes(data)) if len(data) <= _LONGEST else None
    if names is None:
        return None
    module, path = names
    sys.audit("pickle.find_class", module, path)
    try:
        __import__(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and its code has run
        return None
    found = sys.modules[module]
    try:
        for name in path.split("."):
            found = getattr(found, name)
    except AttributeError:
        return None
    return found


def _names_in(data: bytes) -> list[str] | None:
    if not data.startswith(_START) or not data.endswith(_END):
        return None
    names = []
    at = _TEXTS_AT
    for _ in range(2):
        if at + 1 >= len(data) or data[at] != _SHORT_TEXT:
            return None
        end = at + 2 + data[at + 1]
        if data[end : end + 1] != _MEMOIZE:
            return None
        names.append(data[at + 2 : end].decode("utf-8", "surrogatepass"))
        at = end + 1
    return names if at == len(data) - len(_END) else None
