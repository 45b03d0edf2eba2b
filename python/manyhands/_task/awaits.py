"""Which functions return something to be awaited.

Looked at before asyncio is imported, which programs without coroutines never do.
"""

from __future__ import annotations

from typing import Any

__all__ = ["MARK", "is_async"]

# The flag of a code object that belongs to ``async def``, as `inspect.CO_COROUTINE`.
_COROUTINE = 0x80
# The attribute by which functions are known that `manyhands.coroutine` has made.
MARK = "_manyhands_coroutine"


def is_async(fn: Any) -> bool:
    """Say whether a function is of ``async def``, or one that `manyhands.coroutine` has made.

    A partial of one is, too, and an object whose ``__call__`` is one.

    Example:
        >>> async def f(): ...
        >>> is_async(f), is_async(print)
        (True, False)
    """
    for _ in range(8):  # partials of partials
        inner = getattr(fn, "func", None)
        if inner is None or type(fn).__name__ != "partial":
            break
        fn = inner
    if _is_marked(fn):
        return True
    return not hasattr(fn, "__code__") and callable(fn) and _is_marked(type(fn).__call__)


def _is_marked(fn: Any) -> bool:
    if getattr(fn, MARK, False) is True:
        return True
    flags = getattr(getattr(fn, "__code__", None), "co_flags", 0)
    return isinstance(flags, int) and bool(flags & _COROUTINE)
