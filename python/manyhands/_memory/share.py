"""Arrays and bytes that are placed in shared memory once and used by any number of tasks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, overload

from manyhands import _native

if TYPE_CHECKING:
    import numpy as np

    from manyhands._memory.shared_array import SharedArray
    from manyhands._memory.shared_bytes import SharedBytes

__all__ = ["set_shared_memory_limit", "share", "shared_memory"]


@overload
def share(data: np.ndarray[Any, Any], *, writable: bool = False) -> SharedArray: ...


@overload
def share(data: bytes | bytearray | memoryview, *, writable: bool = False) -> SharedBytes: ...


@overload
def share(data: Any, *, writable: bool = False) -> Any: ...


def share(data: Any, *, writable: bool = False) -> Any:
    """Copy an array, or bytes, into shared memory, and return it as one that tasks use in place.

    Submitting what is returned, or a slice of a shared array, copies nothing however big it is:
    the task's array is the same memory. It lives for as long as any process uses it.

    Args:
        data: one of

            - a NumPy array of any shape and of a dtype without Python objects: a `SharedArray`;
            - bytes, a bytearray or a memoryview: a `SharedBytes`;
            - a pandas DataFrame: one whose columns of numbers, dates and durations are shared; the
              other columns, and the index, travel as usual;
            - a list, tuple or dict with some of these in it: the same with them shared; the rest
              stays as it is.
        writable: whether it can be changed, here and in tasks; everyone sees the changes at once,
            and nothing orders them but what you do.

    Raises:
        TypeError: none of these, or an array of Python objects.
        MemoryError: there is no room in shared memory; the message tells the sizes.

    Example:
        >>> import numpy as np
        >>> table = mh.share(np.arange(1_000_000))
        >>> with mh.ProcessPoolExecutor() as ex:
        ...     int(ex.submit(np.sum, table).result())
        499999500000
    """
    if isinstance(data, bytes | bytearray | memoryview):
        from manyhands._memory.shared_bytes import place_bytes

        return place_bytes(data, writable)
    if isinstance(data, list | tuple | dict):
        if not _has_any(data):
            raise _refusal(data)
        return _share_held(data, writable)
    # Whoever has an object of a library has imported it.
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        from manyhands._memory.shared_frame import share_frame

        return share_frame(data, writable)
    return _share_array(data, writable)


def _share_array(array: Any, writable: bool) -> SharedArray:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(array, numpy.ndarray):
        raise _refusal(array)
    from manyhands._memory.shared_array import place

    if isinstance(array, numpy.ma.MaskedArray):
        raise TypeError("a masked array cannot be shared: share its data and its mask")
    if array.dtype.hasobject:
        raise TypeError(f"an array of Python objects (dtype {array.dtype}) cannot be shared")
    return place(array, writable)


def _refusal(data: object) -> TypeError:
    held = " without any of these in it" if isinstance(data, list | tuple | dict) else ""
    return TypeError(
        "share() takes a NumPy array, bytes, a pandas DataFrame, or a list, tuple or dict of "
        f"such, not {type(data).__name__}{held}"
    )


def _kinds() -> tuple[type, ...]:
    """Return the classes whose objects can be shared."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    kinds: list[type] = [bytes, bytearray, memoryview]
    kinds += [] if numpy is None else [numpy.ndarray]
    kinds += [] if pandas is None else [pandas.DataFrame]
    return tuple(kinds)


def _has_any(held: Any) -> bool:
    values = held.values() if isinstance(held, dict) else held
    kinds = _kinds()
    return any(
        _has_any(value) if isinstance(value, list | tuple | dict) else isinstance(value, kinds)
        for value in values
    )


def _share_held(held: Any, writable: bool) -> Any:
    kinds = _kinds()

    def shared(value: Any) -> Any:
        if isinstance(value, list | tuple | dict):
            return _share_held(value, writable)
        return share(value, writable=writable) if isinstance(value, kinds) else value

    if isinstance(held, dict):
        return {key: shared(value) for key, value in held.items()}
    values = [shared(value) for value in held]
    if isinstance(held, list):
        return values
    # A named tuple takes its values apart.
    return type(held)(*values) if hasattr(held, "_fields") else tuple(values)


def shared_memory() -> tuple[int, int]:
    """Return (bytes of shared memory in use, the limit in bytes) of this process and its workers.

    Example:
        >>> in_use, limit = shared_memory()
        >>> in_use < limit
        True
    """
    return _native.shared_memory()


def set_shared_memory_limit(limit: int) -> None:
    """Set the most bytes of shared memory that this process and its workers use.

    The default is half of the memory that this process may use. The environment variable
    ``MANYHANDS_SHARED_MEMORY`` (bytes) does the same.

    Args:
        limit: bytes, at least 16 MiB.

    Raises:
        ValueError: the limit is too small.
        RuntimeError: shared memory is in use already.
    """
    _native.set_shared_memory_limit(limit)
