"""Settings in context variables: decimal's and gmpy2's contexts, NumPy's errors and printing.

Reports: hatchet#1711, python/cpython#141148, vyper#5105, fastapi#2776, joblib#381 and #1525.
"""

from __future__ import annotations

import contextvars
import decimal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import manyhands as mh

where = contextvars.ContextVar("where", default="nobody")
EXECUTORS = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor, mh.Pool]


def digits(precision: int | None = None, barrier: threading.Barrier | None = None) -> int:
    if precision is not None:
        decimal.getcontext().prec = precision
    if barrier is not None:
        barrier.wait()
    return len((Decimal(1) / 3).as_tuple().digits)


def ratio(_: object = None) -> str:
    try:
        return str(np.ones(1) / np.zeros(1))
    except FloatingPointError as error:
        return type(error).__name__


def configure() -> None:
    np.seterr(all="raise")
    np.set_printoptions(precision=3)
    decimal.getcontext().rounding = decimal.ROUND_HALF_UP
    where.set("from the initializer")


def look(_: object = None) -> list[str]:
    rounded = Decimal("2.5").quantize(Decimal(1))
    return [ratio(), str(rounded), where.get(), str(np.array([1.23456789]))]


def in_own_context(test: Callable[[], None]) -> None:
    contextvars.Context().run(test)


def test_each_task_in_a_thread_has_a_decimal_context_of_its_own() -> None:
    def check() -> None:
        decimal.getcontext().prec = 28
        barrier = threading.Barrier(4)
        with mh.ThreadPoolExecutor(4) as pool:
            wanted = [5, 10, 15, 20]
            assert list(pool.map(digits, wanted, [barrier] * 4, chunksize=1)) == wanted
            retried = pool.options(retries=2).submit(digits, 7)
            assert (retried.result(), pool.submit(digits).result()) == (7, 28)
        assert digits() == 28

    in_own_context(check)


@pytest.mark.parametrize("precision", [12, 50])
def test_the_submitters_precision_holds_whoever_computes(precision: int) -> None:
    def check() -> None:
        decimal.getcontext().prec = precision
        for workers in ("thread", "process", "auto"):
            assert mh.map(digits, [None], workers=workers) == [precision]
        with mh.ProcessPoolExecutor(1) as pool:
            assert pool.submit(digits, 5).result() == 5
            assert pool.submit(digits).result() == precision
            decimal.getcontext().prec = 6
            assert pool.submit(digits).result() == 6

    in_own_context(check)


def test_items_that_the_caller_computes_leave_its_settings_alone() -> None:
    def check() -> None:
        decimal.getcontext().prec = 28
        assert mh.map(digits, [5] * 3) == [5] * 3
        assert list(mh.imap(digits, [6] * 3)) == [6] * 3
        assert digits() == 28

    in_own_context(check)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 has it by thread"
)
def test_numpys_handling_of_errors_goes_along() -> None:
    def check() -> None:
        np.seterr(divide="raise")
        for workers in ("thread", "process"):
            assert mh.map(ratio, [0], workers=workers) == ["FloatingPointError"]

    in_own_context(check)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 has it by thread"
)
def test_numpys_handling_of_errors_goes_along_if_an_earlier_task_had_no_numpy() -> None:
    """A worker that did not know NumPy then had it in mind that there was nothing to set."""
    program = """
import numpy as np
import manyhands as mh

def ratio(_):
    return str(np.ones(1) / np.zeros(1))

np.seterr(divide="raise")
with mh.ProcessPoolExecutor(1) as pool:
    pool.submit(eval, "1").result()
    print(type(pool.submit(ratio, 0).exception()).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "FloatingPointError\n"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_an_initializer_sets_holds_in_tasks(executor: Any) -> None:
    def check() -> None:
        with executor(1, initializer=configure) as pool:
            expected = ["FloatingPointError", "3", "from the initializer", "[1.235]"]
            for _ in range(2):
                assert list(pool.map(look, [None])) == [expected]
        assert where.get() == "nobody"

    in_own_context(check)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_submitters_variables_are_on_top_of_the_initializers(executor: Any) -> None:
    def check() -> None:
        where.set("from the submitter")
        with executor(1, initializer=configure) as pool:
            (found,) = pool.map(look, [None])
        assert found[:3] == ["FloatingPointError", "3", "from the submitter"]

    in_own_context(check)


def spoil(_: object) -> int:
    decimal.getcontext().prec = 3
    return digits()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_task_spoils_no_later_tasks_settings(executor: Any) -> None:
    def check() -> None:
        with executor(1, initializer=configure) as pool:
            assert list(pool.map(spoil, [None])) == [3]
            assert list(pool.map(digits, [None])) == [28]

    in_own_context(check)


def test_gmpy2s_context_is_each_tasks_own_and_goes_along() -> None:
    gmpy2 = pytest.importorskip("gmpy2")

    def bits(precision: int | None) -> int:
        if precision is not None:
            gmpy2.get_context().precision = precision
        found: int = gmpy2.sqrt(2).precision
        return found

    def check() -> None:
        gmpy2.get_context().precision = 100
        with mh.ThreadPoolExecutor(1) as threads, mh.ProcessPoolExecutor(1) as processes:
            for pool in (threads, processes):
                assert list(pool.map(bits, [60, None], chunksize=1)) == [60, 100]
        assert gmpy2.get_context().precision == 100

    in_own_context(check)
