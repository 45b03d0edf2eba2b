"""What makes no sense is refused with the name of the argument and with what it must be."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import manyhands as mh
from staying import result

NAMED: dict[str, Callable[[Any], object]] = {
    "Lock": lambda name: mh.Lock(name=name),
    "RLock": lambda name: mh.RLock(name=name),
    "Semaphore": lambda name: mh.Semaphore(name=name),
    "BoundedSemaphore": lambda name: mh.BoundedSemaphore(name=name),
    "Event": lambda name: mh.Event(name=name),
    "Condition": lambda name: mh.Condition(name=name),
    "Barrier": lambda name: mh.Barrier(2, name=name),
    "Queue": lambda name: mh.Queue(name=name),
    "SimpleQueue": lambda name: mh.SimpleQueue(name=name),
    "PriorityQueue": lambda name: mh.PriorityQueue(name=name),
    "Pipe": lambda name: mh.Pipe(name=name),
    "Value": lambda name: mh.Value("i", 0, lock=False, name=name),
    "Array": lambda name: mh.Array("i", 3, lock=False, name=name),
    "SharedArray": lambda name: mh.SharedArray(3, name=name),
}

NUMBERS: dict[str, Callable[[Any], object]] = {
    "value": lambda number: mh.Semaphore(number),
    "parties": lambda number: mh.Barrier(number),
    "maxsize": lambda number: mh.Queue(number),
    "memory": lambda number: mh.Queue(memory=number),
}

WAITS: dict[str, Callable[[Any], object]] = {
    "Lock": lambda timeout: mh.Lock().acquire(timeout=timeout),
    "RLock": lambda timeout: mh.RLock().acquire(timeout=timeout),
    "Semaphore": lambda timeout: mh.Semaphore(0).acquire(timeout=timeout),
    "Event": lambda timeout: mh.Event().wait(timeout),
    "Queue.get": lambda timeout: mh.Queue().get(timeout=timeout),
    "Queue.put": lambda timeout: mh.Queue().put(1, timeout=timeout),
    "Barrier": lambda timeout: mh.Barrier(1).wait(timeout),
    "Pipe": lambda timeout: mh.Pipe()[0].poll(timeout),
}


@pytest.mark.parametrize("name", [3, b"shop", 1.5], ids=repr)
@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_names_that_are_none(make: Callable[[Any], object], name: Any) -> None:
    kind = type(name).__name__
    with pytest.raises(TypeError, match=f"a name must be a str or None, not {kind}"):
        make(name)


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_the_name_of_a_file_that_is_no_text(make: Callable[[Any], object]) -> None:
    with pytest.raises(ValueError, match=r"UTF-8 can encode, not 'shop\\udcff'"):
        make(os.fsdecode(b"shop\xff"))


@pytest.mark.parametrize(("what", "make"), NUMBERS.items(), ids=NUMBERS)
def test_numbers_that_are_none(what: str, make: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=f"{what} must be an integer, not str"):
        make("3")
    with pytest.raises(TypeError, match=f"{what} must be an integer, not float"):
        make(3.0)
    with pytest.raises(OverflowError, match=f"{what} must fit in 64 bits"):
        make(10**30)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_time_outs_that_are_none(wait: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
        wait("3")
    with pytest.raises(ValueError, match="not NaN"):
        wait(float("nan"))
    with pytest.raises(OverflowError, match="timeout value is too large"):
        wait(10**400)


class Two:
    """Stands for a number."""

    def __index__(self) -> int:
        return 2


def test_a_queue_without_a_limit_is_of_zero() -> None:
    with pytest.raises(TypeError, match="maxsize must be an integer, not None: 0 is no limit"):
        mh.Queue(None)  # type: ignore[arg-type]


def test_what_stands_for_a_number() -> None:
    count: Any = np.int64(2)
    numbers: Any = np.arange(3)
    assert mh.Semaphore(Two()).get_value() == 2  # type: ignore[arg-type]
    assert mh.Barrier(Two()).parties == 2  # type: ignore[arg-type]
    assert mh.Queue(Two()).maxsize == 2  # type: ignore[arg-type]
    assert len(mh.Array("i", count)) == 2
    assert list(mh.Array("i", numbers, lock=False)) == [0, 1, 2]


@pytest.mark.parametrize("duplex", [0, 1, None, "", "both", np.True_], ids=repr)
def test_whether_a_pipe_has_two_ways(duplex: Any) -> None:
    for one, other in (mh.Pipe(duplex), multiprocessing.Pipe(duplex)):
        assert one.writable == other.readable == bool(duplex)
        one.close()
        other.close()


@pytest.mark.parametrize("lock", [1, True, None], ids=repr)
def test_whether_a_value_has_a_lock(lock: Any) -> None:
    with mh.Value("i", 3, lock=lock) as value:
        assert value == 3 or value is True
    assert mh.Value("i", 3, lock=lock).get_lock()


def test_a_lock_that_is_none() -> None:
    with pytest.raises(AttributeError, match="a Condition needs a lock, and 3 has no method"):
        mh.Condition(3)


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_without_descriptors_the_error_has_its_number(make: Callable[[Any], object]) -> None:
    def use_up() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        answers = []
        for name in (None, "refused"):
            try:
                make(name)
            except OSError as error:
                answers.append(f"{error.errno} {error.strerror}")
        return "; ".join(answers)

    make(None)
    answer = result(use_up)
    assert answer.count(f"{errno.EMFILE} cannot ") >= 1, answer
    assert answer.count(os.strerror(errno.EMFILE)) == answer.count(";") + 1, answer
