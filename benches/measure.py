"""What a benchmark is: a name, a unit, and one way of driving any contender."""

from __future__ import annotations

import abc
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

from benches.contender import Contender, Group, Kind, PoolContender
from benches.primitives import Primitives

# What ends a run from outside.
ENDING = (signal.SIGINT, signal.SIGTERM)
# SI units; `quantity.shown` turns them into what people read.
Unit = Literal["1/s", "s", "B", "x"]
# Number of workers -> a pool of the library under test, not yet started.
Make = Callable[[int], PoolContender]


class WrongResult(Exception):
    """A library returned something else than it was asked for."""


@dataclass(frozen=True)
class Sample:
    """One measurement: the value in the benchmark's unit, and what lies behind it.

    No value: the contender never got where the value would have been read.
    """

    value: float | None
    detail: dict[str, float] = field(default_factory=dict)


class Measure(abc.ABC):
    """One benchmark. Each sample is taken in a process of its own."""

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str]
    unit: ClassVar[Unit]
    higher_is_better: ClassVar[bool] = False
    group: ClassVar[Group]
    kind: ClassVar[Kind]
    # Processes started per round and contender, their mean being the round's value.
    repeats: ClassVar[int] = 1
    # A sample that takes longer has hung.
    timeout_s: ClassVar[float] = 90.0
    # What of a sample's detail the page shows beside its value, and in which unit.
    details: ClassVar[Mapping[str, Unit]] = {}
    # Processes of others that keep CPUs busy at the time.
    others: ClassVar[int] = 0
    # The name of the plot of what lies behind the value, where there is one.
    curve: ClassVar[str | None] = None

    @abc.abstractmethod
    def sample(self, library: type[Contender], scale: float) -> Sample:
        """Measure one library; `scale` shortens the work (1.0: full, 0.1: a tenth).

        Raises WrongResult when a result is not what was asked for.
        """


# How a measure beside so many processes of others is called, and in words.
_BESIDE = {1: ("busy", "one CPU-bound process"), 2: ("crowded", "two CPU-bound processes")}


def beside(others: int, kind: type[Measure]) -> Measure:
    """Return a measure of waits that is taken while processes of others keep CPUs busy."""
    word, load = _BESIDE[others]
    changed = {
        "name": f"{kind.name}_{word}",
        "title": f"{kind.title}, beside {load} of others",
        "about": f"as `{kind.name}`, beside {load} of others: mean wait",
        "curve": None,
        "others": others,
    }
    measure: Measure = type(kind.__name__, (kind,), changed)()
    return measure


class PoolMeasure(Measure):
    """A benchmark of pools."""

    group = "pools"
    kind: ClassVar[Kind] = "process"
    workers: ClassVar[int] = 2

    def sample(self, library: type[Contender], scale: float) -> Sample:
        """Measure the library's pools."""
        assert issubclass(library, PoolContender)
        return self.run(partial(library, self.kind), scale)

    @abc.abstractmethod
    def run(self, make: Make, scale: float) -> Sample:
        """Measure pools that `make` constructs."""


class SyncMeasure(Measure):
    """A benchmark of locks, events, queues and the like."""

    group = "sync"
    # Set before the library is imported.
    environment: ClassVar[Mapping[str, str]] = {}

    def sample(self, library: type[Contender], scale: float) -> Sample:
        """Measure the library's primitives."""
        assert issubclass(library, Primitives)
        os.environ.update(self.environment)
        return self.run(library(), scale)

    @abc.abstractmethod
    def run(self, library: Primitives, scale: float) -> Sample:
        """Measure what `library` makes."""


def check(right: bool, what: str) -> None:
    """Raise WrongResult naming `what` unless `right`."""
    if not right:
        raise WrongResult(what)


def timed(call: Callable[[], object]) -> float:
    """Return how long `call` takes, in seconds."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeated(once: Callable[[], float], seconds: float, at_least: int, at_most: int) -> list[float]:
    """Call `once` until `seconds` have passed, within the two bounds; return what it returned."""
    end = time.perf_counter() + seconds
    values = [once() for _ in range(at_least)]
    while len(values) < at_most and time.perf_counter() < end:
        values.append(once())
    return values
