"""The array that lies in shared memory. Imported only where there is NumPy."""

from __future__ import annotations

import math
import sys
from operator import index
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from manyhands import _native
from manyhands._memory.named_block import known_block, named_block

try:
    from numpy.lib.array_utils import byte_bounds
except ImportError:  # NumPy 1
    from numpy import byte_bounds  # type: ignore[attr-defined,no-redef,unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

__all__ = ["SharedArray", "array_over", "place", "seen_in"]


class SharedArray(np.ndarray[Any, Any]):
    """A NumPy array in shared memory, at first all zero; pickled by address.

    Tasks, children of every start method, and processes that open it by name have the same memory:
    everybody sees every change at once, and nothing orders the changes but what you do (a `Lock`,
    or parts of its own for each). It lives for as long as any process uses it.

    Slices and other views of it are SharedArrays as well; sums, the results of arithmetic and
    copies are ordinary numbers and arrays. `share` makes one that is a copy of an array.

    Args:
        shape: the length of each dimension, or of the only one.
        dtype: the type of an element; none with Python objects. None means float.
        name: makes it one array for all processes of this user that give the same name. It is gone
            when none of them has it any more. Opening it by its name needs neither shape nor dtype.

    Raises:
        TypeError: a dtype with Python objects; neither shape nor name.
        FileNotFoundError: no shape, and there is no array of that name.
        ValueError: a negative length; the array of that name has another shape or dtype.
        MemoryError: there is no room in shared memory.

    Example:
        >>> counts = mh.SharedArray(4, int)
        >>> with mh.ProcessPoolExecutor(1) as pool:
        ...     pool.submit(counts.fill, 7).result()
        >>> counts.tolist()
        [7, 7, 7, 7]
    """

    __module__ = "manyhands"

    _block: _native.SharedBlock | None

    def __new__(
        cls,
        shape: int | Sequence[int] | None = None,
        dtype: DTypeLike | None = None,
        *,
        name: str | None = None,
    ) -> Self:
        made: Self
        if shape is None:
            if name is None:
                raise TypeError("SharedArray() needs a shape, or the name of an existing one")
            block, (lengths, element) = known_block(name, "SharedArray", "its shape")
            if dtype is not None and np.dtype(dtype) != element:
                raise ValueError(f"the SharedArray named {name!r} is of {element}, not {dtype}")
            made = array_over(block, 0, lengths, None, element, True, cls)
            return made
        lengths = _lengths(shape)
        element = np.dtype(float if dtype is None else dtype)
        if element.hasobject:
            raise TypeError(f"an array of Python objects (dtype {element}) cannot be shared")
        if any(length < 0 for length in lengths):
            raise ValueError(f"negative lengths are not allowed: {lengths}")
        size = math.prod(lengths) * element.itemsize
        if size > sys.maxsize:
            raise MemoryError(
                f"cannot allocate {size} bytes of shared memory: more than the address space holds"
            )
        if name is None:
            block = _native.new_shared(size)
        else:
            text = f"of {element!r} and shape {lengths}"
            block = named_block(name, "SharedArray", text, (lengths, element), size)
        made = array_over(block, 0, lengths, None, element, True, cls)
        return made

    @property
    def name(self) -> str | None:
        """The name by which any process of this user can open it, or None."""
        return None if self._block is None else self._block.name

    def __array_finalize__(self, source: object) -> None:
        self._block = getattr(source, "_block", None)

    def __array_wrap__(
        self,
        array: np.ndarray[Any, Any],
        context: Any = None,
        return_scalar: bool | None = None,
    ) -> Any:
        if array is self:
            return super().__array_wrap__(array, context)
        if return_scalar is None:  # NumPy 1 does not say
            return_scalar = array.shape == ()
        return array[()] if return_scalar else array.view(np.ndarray)

    def copy(self, order: Any = "C") -> np.ndarray[Any, Any]:  # type: ignore[override]
        """Return an ordinary array with the same content, which nobody else sees.

        Args:
            order: as for `numpy.ndarray.copy`.
        """
        return np.array(self, order=order)

    def __reduce_ex__(self, protocol: Any) -> Any:
        block = self._block
        if block is not None:
            offset = _offset_in(block, self)
            if offset is not None:
                element = _named_element(self.dtype)
                layout = (self.shape, self.strides, element, bool(self.flags.writeable))
                place = (block.address, block.length, offset, *layout)
                kind, own = type(self), {**vars(self)}
                own.pop("_block")
                if kind is SharedArray and not own:
                    return (_open, place)
                return (_open, (*place, kind), own, None, None, _set_attributes)
        return np.asarray(self).__reduce_ex__(protocol)


_native.register_shared_array(SharedArray)


def _lengths(shape: Any) -> tuple[int, ...]:
    try:
        return (index(shape),)
    except TypeError:
        return tuple(index(length) for length in shape)


def place(array: np.ndarray[Any, Any], writable: bool) -> SharedArray:
    """Copy `array` into a block of shared memory."""
    flat = np.asarray(array, order="C")
    block = _native.share_buffer(flat.reshape(-1).view(np.uint8).data)
    made: SharedArray = array_over(block, 0, flat.shape, flat.strides, flat.dtype, writable)
    return made


def array_over(
    block: _native.SharedBlock,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
    dtype: np.dtype[Any] | str,
    writable: bool,
    kind: Any = SharedArray,
) -> Any:
    """Return the array that lies in `block` from byte `offset` on."""
    view = block.view(writable)
    array = np.ndarray.__new__(kind, shape, dtype, view, offset, strides)
    array._block = block
    return array


def seen_in(
    block: _native.SharedBlock, array: np.ndarray[Any, Any], writable: bool
) -> SharedArray | None:
    """Return `array` as one that knows that it lies in `block`; None if it does not."""
    offset = _offset_in(block, array)
    if offset is None:
        return None
    made: SharedArray = array_over(block, offset, array.shape, array.strides, array.dtype, writable)
    return made


def _open(address: tuple[Any, ...], length: int, offset: int, *layout: Any) -> Any:
    return array_over(_native.open_shared(address, length), offset, *layout)


def _set_attributes(array: SharedArray, own: dict[str, Any]) -> None:
    vars(array).update(own)


def _offset_in(block: _native.SharedBlock, array: np.ndarray[Any, Any]) -> int | None:
    """Where in the block the array's first element lies; None if it lies elsewhere."""
    start = block.start
    low = first = array.__array_interface__["data"][0]
    if array.flags.c_contiguous:
        high = first + array.nbytes  # as `byte_bounds` has it, which asks for the interface again
    else:
        low, high = byte_bounds(array)
    return first - start if start <= low and high <= start + block.length else None


def _named_element(dtype: np.dtype[Any]) -> np.dtype[Any] | str:
    """Return a dtype by its name if that says all of it: pickling one takes as long as all else."""
    return dtype.str if dtype.isbuiltin == 1 and dtype.metadata is None else dtype
