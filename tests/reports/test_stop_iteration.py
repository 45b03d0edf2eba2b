"""A function that raises StopIteration, as a bare ``next()`` does: an error, never a lost result.

Reports: anyio#475, ray#60521, python/cpython#112182; `multiprocessing.Pool.map` loses items so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from traceback import format_exception
from typing import Any, Literal, TypeAlias

import pytest

import manyhands as mh

Kind: TypeAlias = Literal["thread", "process", "auto"]
KINDS: list[Kind] = ["thread", "process", "auto"]
NUMBERS = range(5)
ARITHMETIC = pytest.mark.once("how many items go together is arithmetic")


def find(number: int) -> str:
    """Find nothing for 2."""
    return next(what for where, what in {0: "a", 1: "b", 3: "d"}.items() if where == number)


def find_last(number: int) -> int:
    """Find nothing for the last one."""
    return next(iter([number] if number < 4 else []))


FUNCTIONS: list[Callable[[int], Any]] = [find, find_last, partial(find)]


@pytest.mark.parametrize("workers", KINDS)
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_maps_raise(workers: Kind, fn: Callable[[int], Any]) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        mh.map(fn, NUMBERS, workers=workers)
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(mh.imap(fn, NUMBERS, workers=workers))
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(mh.imap(fn, NUMBERS, workers=workers, ordered=False))
    with pytest.raises(RuntimeError, match="StopIteration"):
        mh.map(fn, NUMBERS, workers=workers, retries=1)


@pytest.mark.once("a timeout is Rust's; what the worker makes of the error, it makes without one")
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_maps_with_a_timeout_raise(fn: Callable[[int], Any]) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        mh.map(fn, NUMBERS, workers="process", timeout=60)


@pytest.mark.parametrize("kind", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
@pytest.mark.parametrize(
    "chunksize", [pytest.param(1, marks=ARITHMETIC), 2, pytest.param(None, marks=ARITHMETIC)]
)
def test_maps_of_executors_raise(kind: Any, chunksize: int | None) -> None:
    with kind(2) as pool:
        for fn in FUNCTIONS:
            for start in (pool.map, pool.imap, pool.imap_unordered):
                with pytest.raises(RuntimeError, match="StopIteration"):
                    list(start(fn, NUMBERS, chunksize=chunksize))
            with pytest.raises(RuntimeError, match="StopIteration"):
                list(pool.starmap(fn, [(n,) for n in NUMBERS], chunksize=chunksize))


def test_every_map_of_a_pool_raises() -> None:
    with mh.Pool(2) as pool:
        for fn in FUNCTIONS:
            with pytest.raises(RuntimeError, match="StopIteration"):
                pool.map(fn, NUMBERS)
            with pytest.raises(RuntimeError, match="StopIteration"):
                list(pool.imap(fn, NUMBERS))
            with pytest.raises(RuntimeError, match="StopIteration"):
                list(pool.imap_unordered(fn, NUMBERS, 2))


def test_functions_written_in_c_raise() -> None:
    with mh.ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="next raised Stop"):
        list(pool.map(next, [iter([1]), iter([]), iter([3])], chunksize=3))


def test_the_error_says_where_the_function_stopped() -> None:
    with pytest.raises(RuntimeError, match="find raised StopIteration") as caught:
        mh.map(find, NUMBERS, workers="process")
    text = "".join(format_exception(caught.value))
    assert "in find" in text and "\nStopIteration\n" in text


@pytest.mark.parametrize("workers", KINDS)
def test_a_generator_that_passes_results_on_does_not_end_early(workers: Kind) -> None:
    def passed_on() -> Iterator[str]:
        yield from mh.imap(find, NUMBERS, workers=workers)

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(passed_on())
