"""Reloads and kills in random order, under a load; and what the load has seen of them."""

from __future__ import annotations

import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benches.chaos import worker
from benches.chaos.client import clients
from benches.chaos.supervisor import WORKERS, Supervisor, SupervisorEnded
from benches.chaos.tally import Failed, Failure, Held, Tally

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.chaos.supervisor import Kind

# How long a server may take until it has its workers again.
SETTLING_S = 30.0
RELOAD, KILL = "reload", "kill"


@dataclass
class Result:
    """What has come of a server.

    Args:
        name: the server's.
        keeps: whether clients kept their connections.
    """

    name: str
    keeps: bool
    tally: Tally = field(default_factory=Tally)
    killed: list[Held] = field(default_factory=list)
    # What was done -> how long it took each time until the workers were there again.
    seconds: dict[str, list[float]] = field(default_factory=lambda: {RELOAD: [], KILL: []})
    unsettled: int = 0
    ended: str = ""

    @property
    def failed(self) -> bool:
        """Whether the server has lost a request that it need not have lost, or has ended."""
        return bool(self.ended) or any(each.how is not Failure.OVERTAKEN for each in self.others)

    @property
    def held(self) -> int:
        """How many connections killed workers had."""
        return sum(len(each.ports) for each in self.killed)

    @property
    def others(self) -> list[Failed]:
        """The failures that no killed worker explains."""
        return self.tally.others(self.killed)

    @property
    def lost(self) -> int:
        """How many requests failed that a killed worker had."""
        return len(self.tally.failures) - len(self.others)

    def median(self, what: str) -> float:
        """Return how long it mostly took, in seconds; NaN if it was never done."""
        return statistics.median(self.seconds[what] or [float("nan")])


class Storm:
    """Does something to a server, and waits until it has its workers again."""

    def __init__(self, server: Supervisor, result: Result, rest_s: float) -> None:
        self._server = server
        self._rest_s = rest_s
        self._result = result
        self._tally = result.tally
        self._workers = self._settled(set(), time.monotonic())

    def reload(self) -> None:
        """Have all workers replaced."""
        self._do(RELOAD, set(self._workers), self._server.reload)

    def kill(self) -> None:
        """Kill one of the workers."""
        time.sleep(self._rest_s)
        victim = random.choice(sorted(self._workers))
        self._do(KILL, {victim}, lambda: self._result.killed.append(worker.kill(victim)))

    def _do(self, what: str, leaving: set[int], action: Callable[[], None]) -> None:
        self._tally.during = what
        began = time.monotonic()
        action()
        self._workers = self._settled(leaving, began)
        self._result.seconds[what].append(time.monotonic() - began)

    def _settled(self, leaving: set[int], since: float) -> set[int]:
        """Wait until others answer, as many as there should be, and those who leave have gone."""
        deadline = time.monotonic() + SETTLING_S
        while True:
            self._server.check()
            gone = not any(worker.is_alive(each) for each in leaving)
            there = {each for each in self._tally.workers(since) if worker.is_alive(each)}
            if gone and len(there) >= WORKERS:
                return there
            if time.monotonic() > deadline:
                self._result.unsettled += 1
                return there or self._workers
            time.sleep(0.01)


def stormed(
    name: str, kind: Kind, keeps: bool, reloads: int, kills: int, log: int | None
) -> Result:
    """Reload and kill so many times, in random order."""
    result = Result(name, keeps)
    todo = [RELOAD] * reloads + [KILL] * kills
    random.shuffle(todo)
    try:
        with Supervisor(kind, log) as server, clients(server.port, keeps, result.tally):
            storm = Storm(server, result, kind.rest_s)
            for number, what in enumerate(todo, 1):
                storm.reload() if what == RELOAD else storm.kill()
                if number % 25 == 0:
                    _told(result, f"{number}/{len(todo)}")
    except SupervisorEnded as error:
        result.ended = str(error)
    return result


def _told(result: Result, progress: str) -> None:
    text = f"{result.name}: {progress}, {len(result.others)} failures not of killed workers"
    print(text, file=sys.stderr, flush=True)
