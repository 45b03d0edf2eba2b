"""How long 64 MB take to reach a task, and to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check, repeated, timed
from benches.waits import sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.contender import Array

# Elements of 8 bytes: 64 MB.
LENGTH = 8_000_000


def made_array(scale: float) -> Array:
    """Return the array to ship; `scale` below 1 makes it shorter, one megabyte at least."""
    import numpy

    return numpy.arange(max(131_072, int(LENGTH * min(1.0, scale))), dtype=numpy.float64)


def mean_call(call: Callable[[int], float], scale: float, at_most: int) -> Sample:
    """Time `call(n)` repeatedly and check that it returns n; warm up with two calls."""
    number = 0
    result = 0.0

    def once() -> None:
        nonlocal result
        result = call(number)

    def wait() -> float:
        nonlocal number
        number += 1
        taken = timed(once)
        check(result == number, "the task saw another array than the one sent")
        return taken

    for _ in range(2):
        wait()
    waits = repeated(wait, 1.0 * scale, at_least=3, at_most=at_most)
    return sample_of(waits)


class ArrayArgument(PoolMeasure):
    """A 64 MB array as the argument of a task that returns one element."""

    name = "array"
    title = "Array: 64 MB of float64 as an argument"
    about = "64 MB, changed in one place before each task; the task returns its last element"
    unit: ClassVar[Unit] = "s"

    def run(self, make: Make, scale: float) -> Sample:
        """Return the seconds from submit to result."""
        array = made_array(scale)

        def call(number: int) -> float:
            array[-1] = number
            # A view is a new object: joblib would send an array it knows by identity only once.
            return pool.call(work.last_element, array[:])

        with make(self.workers) as pool:
            # Outside the clock: that every element arrives, wherever the array was changed.
            for place in range(0, len(array), len(array) // 8):
                array[place] += 1.0
                arrived = pool.call(work.sum_and_length, array[:])
                check(arrived == work.sum_and_length(array), "the array arrived damaged")
            return mean_call(call, scale, at_most=50)


class ArrayShared(PoolMeasure):
    """The same array, placed once in memory that workers see."""

    name = "array_shared"
    title = "Shared array: 64 MB placed once, then passed to tasks"
    about = (
        "the array is placed before the clock starts; submit and result of one task that reads it"
    )
    unit: ClassVar[Unit] = "s"

    def run(self, make: Make, scale: float) -> Sample:
        """Return the seconds from submit to result."""
        array = made_array(scale)
        array[-1] = -1.0
        with make(self.workers) as pool:
            task, argument = pool.shared(array)
            try:
                # Both workers attach before the clock starts.
                pool.submit_all(task, [argument] * 16)

                def call(number: int) -> float:
                    return number if pool.call(task, argument) == -1.0 else -1

                return mean_call(call, scale, at_most=5_000)
            finally:
                pool.unshare()


class ArrayResult(PoolMeasure):
    """A 64 MB array as the result of a task."""

    name = "array_result"
    title = "Array: 64 MB of float64 as a result"
    about = "the task returns a 64 MB ndarray it keeps; the caller reads its last element"
    unit: ClassVar[Unit] = "s"

    def run(self, make: Make, scale: float) -> Sample:
        """Return the seconds from submit to result."""
        length = len(made_array(scale))

        def call(number: int) -> float:
            return float(pool.call(work.kept_array, (length, float(number)))[-1])

        expected = made_array(scale)
        with make(self.workers) as pool:
            # Outside the clock: that every element comes back. One at a time, since a pool that
            # pickles results in the background would send what the next task has written.
            for number in range(4):
                array = pool.call(work.kept_array, (length, float(number)))
                expected[-1] = number
                check(bool((array == expected).all()), "the array came back damaged")
            del array
            return mean_call(call, scale, at_most=50)
