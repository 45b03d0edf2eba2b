"""Exceptions whose class refuses that attributes are set: the task's own error arrives.

Reports: pebble's and loky's suites; python/cpython#99856. A FrozenInstanceError took its place.
"""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

import manyhands as mh


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    number: int


class Stubborn(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError(f"nobody sets {name}")


class Causeless(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        return None


class Particular(Exception):
    """Takes something else than it hands on, as requests' and botocore's errors do."""

    def __init__(self, number: int, *, unit: str = "m") -> None:
        super().__init__(f"{number} {unit}")
        self.number = number


class Demanding(Exception):
    def __init__(self, number: int, unit: str) -> None:
        super().__init__(f"{number} {unit}")
        self.number = number


def demand() -> None:
    raise Demanding(7, "m")


class Unpicklable:
    def __reduce__(self) -> Any:
        raise Frozen(3)


def fail(kind: type[Exception]) -> None:
    raise kind(7)


@pytest.mark.parametrize("kind", [Frozen, Stubborn, Causeless, Particular])
@pytest.mark.parametrize("executor", [mh.ProcessPoolExecutor, mh.ThreadPoolExecutor])
def test_the_tasks_own_error_arrives(executor: Any, kind: type[Exception]) -> None:
    with executor(1) as pool:
        error = pool.submit(fail, kind).exception()
        assert type(error) is kind
        assert getattr(error, "number", error.args[0]) == 7
        with pytest.raises(kind):
            list(pool.map(fail, [kind], chunksize=1))
        with pytest.raises(kind):
            list(pool.map(fail, [kind], chunksize=2))


def test_a_frozen_error_keeps_the_workers_traceback() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(fail, Frozen).exception()
    assert "in fail" in str(getattr(error, "__cause__", None))


def test_an_error_that_its_arguments_cannot_make_anew_arrives() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        error = pool.submit(demand).exception()
    assert isinstance(error, Demanding)
    assert (error.args, error.number) == (("7 m",), 7)


def test_an_argument_that_refuses_to_be_pickled_says_so_itself() -> None:
    # From CPython 3.14 on, pickle notes in the error where it was, and raises what comes of that.
    with pytest.raises((Frozen, dataclasses.FrozenInstanceError)) as caught:
        pickle.dumps((Unpicklable(),))
    with mh.ProcessPoolExecutor(1) as pool, pytest.raises(caught.type) as ours:
        pool.submit(print, Unpicklable())
    assert Frozen(3) in (ours.value, ours.value.__context__)
