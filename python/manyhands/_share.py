"""Arrays that are placed in shared memory once and used by any number of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands import _native

if TYPE_CHECKING:
    import numpy as np

    from manyhands._shared_array import SharedArray

__all__ = ["set_shared_memory_limit", "share", "shared_memory"]


def share(array: np.ndarray[Any, Any], *, writable: bool = False) -> SharedArray:
    """Copy a NumPy array into shared memory, and return it as an array that tasks use in place.

    Submitting the returned array, or a slice of it, copies nothing however big it is: the task's
    array is the same memory. It lives for as long as any process uses it.

    Args:
        array: an array of any shape and of a dtype without Python objects.
        writable: whether it can be changed, here and in tasks; everyone sees the changes at once,
            and nothing orders them but what you do.

    Raises:
        TypeError: not an array, or one of Python objects.
        MemoryError: there is no room in shared memory; the message tells the sizes.

    Example:
        >>> import numpy as np
        >>> table = mh.share(np.arange(1_000_000))
        >>> with mh.ProcessPoolExecutor() as ex:
        ...     int(ex.submit(np.sum, table).result())
        499999500000
    """
    import numpy as np

    from manyhands._shared_array import place

    if not isinstance(array, np.ndarray):
        raise TypeError(f"share() takes a NumPy array, not {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("a masked array cannot be shared: share its data and its mask")
    if array.dtype.hasobject:
        raise TypeError(f"an array of Python objects (dtype {array.dtype}) cannot be shared")
    return place(array, writable)


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
