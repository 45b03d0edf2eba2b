"""Objects that cannot be made where they arrive: the error says that this is what has failed.

Reports: ray#49885 and #17936, python/cpython#109554: the traceback has nothing of the program's, so
that the library seems to have failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import manyhands as mh


class Unmakable:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


def make(size: int) -> list[Any]:
    return [Unmakable(), "x" * size]


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, -1).result()  # its processes are no test's
        yield executor


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_result(pool: mh.ProcessPoolExecutor, size: int) -> None:
    error = pool.submit(make, size).exception()
    assert isinstance(error, ZeroDivisionError)
    assert error.__notes__ == ["manyhands: raised here while unpickling the result of the task"]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_an_argument(pool: mh.ProcessPoolExecutor, size: int) -> None:
    error = pool.submit(len, make(size)).exception()
    assert isinstance(error, ZeroDivisionError)
    assert error.__notes__ == [
        "manyhands: raised in the worker while unpickling the function or arguments of the task"
    ]
    assert pool.submit(len, "abc").result() == 3
