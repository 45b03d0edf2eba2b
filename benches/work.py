"""The tasks: what workers are asked to do, importable, so that they are shipped by reference.

Nothing heavy is imported at module level, because a worker's start is part of what is measured.
"""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benches.contender import Array, SharedArray

# Per worker process: arrays and attached memory kept from one task to the next.
_kept: dict[object, Any] = {}


def identity(value: int) -> int:
    """Return `value`: the tiny task, all cost and no work."""
    return value


def nap(seconds: float) -> int:
    """Sleep `seconds`, so that another worker takes the next task, and return this process's id."""
    time.sleep(seconds)
    return os.getpid()


def process_id(_: object = None) -> int:
    """Return the id of the process that runs the task."""
    return os.getpid()


def spin(count: int) -> int:
    """Compute under the GIL for `count` turns of an empty loop; return `count`."""
    for _ in range(count):
        pass
    return count


def stay_busy(path: str) -> None:
    """Write this process's id to the file `path`, then compute until killed (60 s at most)."""
    part = Path(f"{path}.part")
    part.write_text(str(os.getpid()))
    # Whoever waits for the file finds it whole.
    part.rename(path)
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        pass


def last_element(array: Array) -> float:
    """Return the last element of a one-dimensional array."""
    return float(array[-1])


def sum_of_part(array: Array, begin: int, end: int) -> float:
    """Return the sum of the elements from `begin` up to `end`."""
    return float(array[begin:end].sum())


def sum_and_length(array: Array) -> tuple[float, int]:
    """Return the sum of all elements and their number: the whole array is read."""
    return float(array.sum()), len(array)


def kept_array(request: tuple[int, float]) -> Array:
    """Return an array of (length, last element) that this worker made once and keeps.

    Kept, so that the way back is measured and not how fast the kernel hands out fresh pages.
    """
    import numpy

    length, last = request
    array: Array | None = _kept.get(length)
    if array is None:
        array = _kept[length] = numpy.arange(length, dtype=numpy.float64)
    array[-1] = last
    return array


def last_of_shared(shared: SharedArray) -> float:
    """Return the last element of an array in named shared memory, attached once per worker."""
    import numpy

    array = _kept.get(shared)
    if array is None:
        from multiprocessing.shared_memory import SharedMemory

        memory = SharedMemory(shared.name)
        array = numpy.ndarray((shared.length,), dtype=numpy.float64, buffer=memory.buf)
        # The array alone does not keep the mapping alive.
        _kept[shared] = array
        _kept[shared.name] = memory
    return float(array[-1])


def parse(path: str) -> tuple[int, int]:
    """Parse the Python source file `path`; return how many definitions and names it holds."""
    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    definitions = names = 0
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions += 1
        elif isinstance(node, ast.Name):
            names += 1
    return definitions, names
