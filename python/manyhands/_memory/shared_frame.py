"""The data frame whose columns lie in shared memory. Imported only where there is pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]

from manyhands._memory.shared_array import SharedArray, place, seen_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands import _native

__all__ = ["SharedFrame", "share_frame"]

# Booleans, numbers, dates and durations, as NumPy has them.
_KINDS = "biufcmM"


class SharedFrame(pd.DataFrame):  # type: ignore[misc, unused-ignore]
    """A pandas DataFrame whose columns of numbers lie in shared memory. Made by `share`.

    It is pickled by the address of each such column that still lies there; all else goes along as
    usual: other columns, the index, what has been assigned since. What is made from it, slices and
    the results of methods, are ordinary data frames.
    """

    # An attribute of the object, not a column.
    _metadata = ["_shared"]
    _shared: list[tuple[_native.SharedBlock, bool]]

    @property
    def _constructor(self) -> Callable[..., pd.DataFrame]:
        return pd.DataFrame  # type: ignore[no-any-return, unused-ignore]

    def __reduce_ex__(self, protocol: Any) -> Any:
        shared: dict[int, SharedArray] = {}
        others: dict[int, Any] = {}
        for place_of in range(self.shape[1]):
            column = self.iloc[:, place_of]
            found = None if column.dtype.kind not in _KINDS else self._find(column.to_numpy())
            if found is None:
                others[place_of] = column.array
            else:
                shared[place_of] = found
        return _assemble, (shared, others, self.columns, self.index, self.attrs)

    def _find(self, values: np.ndarray[Any, Any]) -> SharedArray | None:
        """Return the same values as an array that knows where in shared memory it lies."""
        for block, writable in self._shared:
            found = seen_in(block, values, writable)
            if found is not None:
                return found
        return None


def share_frame(frame: pd.DataFrame, writable: bool) -> SharedFrame:
    """Copy the columns of numbers into shared memory; see `share`."""
    shared: dict[int, SharedArray] = {}
    others: dict[int, Any] = {}
    for place_of, dtype in enumerate(frame.dtypes):
        column = frame.iloc[:, place_of]
        if isinstance(dtype, np.dtype) and dtype.kind in _KINDS:
            shared[place_of] = place(column.to_numpy(), writable)
        else:
            others[place_of] = column.array
    return _assemble(shared, others, frame.columns, frame.index, frame.attrs)


def _assemble(
    shared: dict[int, SharedArray],
    others: dict[int, Any],
    columns: pd.Index,
    index: pd.Index,
    attrs: dict[Any, Any],
) -> SharedFrame:
    # A plain view: pandas would ask the shared array to wrap what is computed from it.
    values: dict[int, Any] = {at: array.view(np.ndarray) for at, array in shared.items()} | others
    # By number, as names may occur twice.
    frame = SharedFrame({at: values[at] for at in range(len(values))}, index=index, copy=False)
    frame.columns = columns
    frame.attrs.update(attrs)
    blocks = [(array._block, bool(array.flags.writeable)) for array in shared.values()]
    object.__setattr__(frame, "_shared", blocks)
    return frame
