"""What clients have seen of a server: answers, failures, and the longest time without an answer."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Failure(StrEnum):
    """How a request can fail."""

    REFUSED = "refused"  # nobody listened
    RESET = "reset"  # the connection was reset, before or after the request had been sent
    EMPTY = "empty"  # it was closed without an answer
    CUT = "cut"  # it was closed, or reset, in the middle of the answer
    WRONG = "wrong"  # another answer than there should be
    LATE = "late"  # nothing came for as long as a client waits
    # A connection that was kept was closed as another request was on its way. No server that closes
    # such connections can exclude it; HTTP has the client ask again (RFC 9112, 9.3.1).
    OVERTAKEN = "overtaken"


@dataclass(frozen=True)
class Failed:
    """A request that failed.

    Args:
        how: what the client saw.
        during: what was being done to the server.
        port: the client's, 0 if it had no connection.
        opened: when the connection was, by `time.monotonic`.
        at: when it failed.
    """

    how: Failure
    during: str
    port: int
    opened: float
    at: float


@dataclass(frozen=True)
class Held:
    """The connections that a worker had as it was killed: the ports of their clients, and when."""

    ports: frozenset[int]
    at: float


class Tally:
    """Counts for all clients of one server."""

    def __init__(self) -> None:
        self.answered = 0
        self.failures: list[Failed] = []
        self.during = "start"
        # What was being done -> the longest time without an answer, in seconds.
        self.longest: defaultdict[str, float] = defaultdict(float)
        # Process -> when the latest of the requests was begun that it has answered.
        self._workers: dict[int, float] = {}
        self._last = time.monotonic()
        self._lock = threading.Lock()

    def answer(self, worker: int, began: float) -> None:
        """Note an answer to a request that was begun at a time."""
        with self._lock:
            now = time.monotonic()
            self.answered += 1
            self.longest[self.during] = max(self.longest[self.during], now - self._last)
            self._last = now
            self._workers[worker] = max(began, self._workers.get(worker, began))

    def fail(self, how: Failure, port: int, opened: float) -> None:
        """Note a request that failed."""
        with self._lock:
            self.failures.append(Failed(how, self.during, port, opened, time.monotonic()))

    def workers(self, since: float) -> set[int]:
        """Return the processes that have answered requests begun since a time."""
        with self._lock:
            return {worker for worker, began in self._workers.items() if began >= since}

    def others(self, killed: Iterable[Held]) -> list[Failed]:
        """Return the failures on connections that no killed worker had."""
        held = list(killed)
        return [
            failed
            for failed in self.failures
            if not any(
                failed.port in each.ports and failed.opened <= each.at <= failed.at for each in held
            )
        ]
