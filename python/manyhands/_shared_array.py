"""The array that lies in shared memory. Imported only where there is NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from manyhands import _native

__all__ = ["SharedArray", "place"]


class SharedArray(np.ndarray[Any, Any]):
    """A NumPy array in shared memory: made by `manyhands.share`, pickled by address.

    Slices and other views of it are SharedArrays as well; the results of arithmetic are ordinary
    memory and pickle like any array.
    """

    _block: _native.SharedBlock | None

    def __array_finalize__(self, source: object) -> None:
        self._block = getattr(source, "_block", None)

    def __reduce_ex__(self, protocol: Any) -> Any:
        block = self._block
        if block is not None:
            offset = _offset_in(block, self)
            if offset is not None:
                home, reference, length = block.address
                layout = (self.shape, self.strides, self.dtype, bool(self.flags.writeable))
                return (_open, (home, reference, length, offset, *layout))
        return np.asarray(self).__reduce_ex__(protocol)


def place(array: np.ndarray[Any, Any], writable: bool) -> SharedArray:
    """Copy `array` into a block of shared memory."""
    flat = np.ascontiguousarray(array)
    block = _native.share_buffer(flat.reshape(-1).view(np.uint8).data)
    return _array_over(block, 0, flat.shape, flat.strides, flat.dtype, writable)


def _array_over(
    block: _native.SharedBlock,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype[Any],
    writable: bool,
) -> SharedArray:
    view = block.view(writable)
    array = np.ndarray.__new__(SharedArray, shape, dtype, view, offset, strides)
    array._block = block
    return array


def _open(home: int, reference: int, length: int, offset: int, *layout: Any) -> SharedArray:
    return _array_over(_native.open_shared(home, reference, length), offset, *layout)


def _offset_in(block: _native.SharedBlock, array: np.ndarray[Any, Any]) -> int | None:
    """Where in the block the array's first element lies; None if it lies elsewhere."""
    start = block.start
    first = array.__array_interface__["data"][0]
    low, high = np.lib.array_utils.byte_bounds(array)
    return first - start if start <= low and high <= start + block.length else None
