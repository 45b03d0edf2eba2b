"""What makes no sense is refused with the name of the argument and with what it must be."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import manyhands as mh

KINDS = [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor]
FOREVER = 10**30

WAITS: dict[str, Callable[[Any, Any], object]] = {
    "result": lambda pool, timeout: pool.submit(mh.sleep, 0.5).result(timeout),
    "exception": lambda pool, timeout: pool.submit(mh.sleep, 0.5).exception(timeout),
    "wait": lambda pool, timeout: mh.wait([pool.submit(mh.sleep, 0.5)], timeout),
    "as_completed": lambda pool, timeout: list(
        mh.as_completed([pool.submit(mh.sleep, 0.5)], timeout)
    ),
    "map": lambda pool, timeout: list(pool.map(abs, [-1], timeout=timeout)),
    "options": lambda pool, timeout: pool.options(timeout=timeout),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("kind", KINDS)
def test_time_outs_that_are_none(kind: Any, wait: Callable[[Any, Any], object]) -> None:
    with kind(1) as pool:
        for timeout in ("3", [3]):
            with pytest.raises(TypeError, match=r"timeout must be .*seconds or None, not"):
                wait(pool, timeout)
        with pytest.raises(ValueError, match=r"timeout must be a number of seconds .*not NaN"):
            wait(pool, float("nan"))


@pytest.mark.parametrize("kind", KINDS)
def test_seconds_of_pools_that_are_none(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"idle_timeout must be a number of seconds .*, not str"):
        kind(idle_timeout="3")
    with pytest.raises(ValueError, match="idle_timeout must not be negative, got -3"):
        kind(idle_timeout=-3)
    with pytest.raises(ValueError, match=r"idle_timeout must be .*, not NaN"):
        kind(idle_timeout=float("nan"))


@pytest.mark.parametrize("kind", KINDS)
def test_repeating_forever_is_repeating_often(kind: Any) -> None:
    with kind(1) as pool:
        with pytest.raises(ValueError, match="retries must be at most 4294967295, got"):
            pool.options(retries=FOREVER)
        assert pool.options(retries=4294967295).submit(abs, -1).result(30) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_may_be_called_like_a_file_that_is_no_text(kind: Any) -> None:
    with kind(1) as pool:
        named = pool.options(name=os.fsdecode(b"caf\xc3\xa9 \xff"), timeout=0.05)
        error = named.submit(mh.sleep, 30).exception(30)
    assert error.task == "café \\udcff"


def test_threads_without_a_limit() -> None:
    with mh.ThreadPoolExecutor(FOREVER) as pool:
        assert pool.submit(abs, -1).result(30) == 1
        pool.resize(FOREVER)
        assert pool.submit(abs, -2).result(30) == 2


@pytest.mark.parametrize("preload", [3, "numpy", [3]], ids=repr)
def test_modules_that_are_none(preload: Any) -> None:
    with pytest.raises(TypeError, match="preload must be a sequence of module names, not"):
        mh.ProcessPoolExecutor(preload=preload)


@pytest.mark.parametrize("what", ["max_tasks_per_child", "max_memory_per_child", "worker_threads"])
def test_counts_that_are_none(what: str) -> None:
    wrong: dict[str, Any] = {what: "3"}
    with pytest.raises(TypeError, match=f"{what} must be an integer or None, not str"):
        mh.ProcessPoolExecutor(**wrong)
    wrong[what] = 0
    with pytest.raises(ValueError, match=f"{what} must be >= 1, not 0"):
        mh.ProcessPoolExecutor(**wrong)


def test_time_outs_of_multiprocessings_pool() -> None:
    wrong: Any = "3"
    with mh.Pool(1) as pool:
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            pool.apply_async(abs, (-1,)).get(wrong)
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            pool.imap(abs, [-1]).next(wrong)


class Holder:
    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def double(self, number: int) -> int:
        return 2 * number


class Leaver(Holder):
    def __getstate__(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_of_what_has_a_pool(kind: Any) -> None:
    with mh.ProcessPoolExecutor(1) as processes, kind(1) as pool:
        for held in (pool, pool.options(timeout=30)):
            with pytest.raises(TypeError, match=r"a pool stays in .* fn\.__self__\.pool"):
                processes.submit(Holder(held).double, 1)
            assert processes.submit(Leaver(held).double, 1).result(30) == 2
