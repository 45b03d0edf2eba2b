"""Classes derived from locks: made with arguments of their own, pickled with their attributes."""

from __future__ import annotations

import pickle
import uuid
from typing import Any

import pytest

import manyhands as mh

INITS: list[str] = []


class Own:
    """What each class here has beyond its base."""

    extra: int

    def __init__(self, *arguments: Any, extra: int = 5, **keywords: Any) -> None:
        INITS.append(type(self).__name__)
        super().__init__(*arguments, **keywords)
        self.extra = extra


class OwnLock(Own, mh.Lock): ...


class OwnRLock(Own, mh.RLock): ...


class OwnSemaphore(Own, mh.Semaphore): ...


class OwnBoundedSemaphore(Own, mh.BoundedSemaphore): ...


class OwnEvent(Own, mh.Event): ...


class OwnCondition(Own, mh.Condition): ...


class OwnBarrier(Own, mh.Barrier): ...


class Named(mh.Lock):
    """One that chooses its name."""

    def __new__(cls, label: str) -> Named:
        return super().__new__(cls, name=label)

    def __init__(self, label: str) -> None:
        super().__init__(name=label, on_owner_died="acquire")
        self.label = label


class Forgetful(mh.Lock):
    """One that chooses its name too late."""

    def __init__(self, label: str) -> None:
        super().__init__(name=label)


class Fewer(mh.Semaphore):
    """One that chooses its value too late."""

    def __init__(self) -> None:
        super().__init__(5)


KINDS: list[tuple[Any, tuple[int, ...]]] = [
    (OwnLock, ()),
    (OwnRLock, ()),
    (OwnSemaphore, (3,)),
    (OwnBoundedSemaphore, (3,)),
    (OwnEvent, ()),
    (OwnCondition, ()),
    (OwnBarrier, (2,)),
]


@pytest.mark.parametrize(
    ("kind", "arguments"), KINDS, ids=lambda value: getattr(value, "__name__", "")
)
def test_attributes_travel(kind: Any, arguments: tuple[int, ...]) -> None:
    made = kind(*arguments, extra=7)
    made.colour = "red"
    INITS.clear()
    copy = pickle.loads(pickle.dumps(made))
    assert (type(copy), copy.extra, copy.colour) == (kind, 7, "red")
    assert INITS == []
    if hasattr(made, "acquire"):
        made.acquire()
        assert copy.statistics() == made.statistics()
        made.release()


@pytest.mark.parametrize(
    ("kind", "arguments"), KINDS, ids=lambda value: getattr(value, "__name__", "")
)
def test_arguments_of_the_base(kind: Any, arguments: tuple[int, ...]) -> None:
    name = f"test-{uuid.uuid4()}"
    made = kind(*arguments, extra=1, name=name)
    assert (made.name, made.extra) == (name, 1)


def test_a_lock_that_chooses_its_name() -> None:
    name = f"test-{uuid.uuid4()}"
    made = Named(name)
    copy = pickle.loads(pickle.dumps(made))
    assert (copy.name, copy.label, copy.on_owner_died) == (name, name, "acquire")
    with made:
        assert copy.locked()


def test_what_is_chosen_too_late_is_not_ignored() -> None:
    with pytest.raises(TypeError, match="must do so in both"):
        Forgetful("label")
    with pytest.raises(TypeError, match="must do so in both"):
        Fewer()


def test_a_barrier_keeps_its_action_and_timeout() -> None:
    barrier = mh.Barrier(1, print, timeout=3)
    copy = pickle.loads(pickle.dumps(barrier))
    assert (copy._action, copy._timeout) == (print, 3)


def test_a_bounded_semaphore_is_a_semaphore() -> None:
    assert isinstance(mh.BoundedSemaphore(), mh.Semaphore)
