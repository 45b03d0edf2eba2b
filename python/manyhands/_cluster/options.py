"""How a cluster runs a task: what `ClusterExecutor.options` takes."""

from __future__ import annotations

import math
from datetime import datetime
from time import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from manyhands._interpreter.deadline import seconds_of
from manyhands._task.backoff import pauses_of

if TYPE_CHECKING:
    from manyhands._task.options import Backoff

__all__ = [
    "NO_CLUSTER_OPTIONS",
    "ClusterOptions",
    "When",
    "check_name",
    "check_priority",
    "milliseconds",
    "moment",
]

# A moment: a datetime (one without a time zone is local), or seconds from now.
When: TypeAlias = "datetime | float | None"


class ClusterOptions(NamedTuple):
    """The options of all executors, and what only a cluster has.

    Attributes:
        queue: the queue, or None for the executor's.
        eta_ms: not to run before this, in milliseconds since 1970; None for at once.
        countdown: seconds from its submission until it may run.
        expires: seconds from its submission after which it is not begun any more.
        expires_ms: that moment in milliseconds since 1970.
        ignore_result: whether nobody waits for the result.
        soft_timeout: seconds after which the task gets an exception.
        task_id: the id of its first attempt, or None for a new one.
    """

    timeout: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    priority: int = 0
    name: str | None = None
    backoff: Backoff = None
    wait_for_futures: bool = False
    queue: str | None = None
    countdown: float | None = None
    eta_ms: int | None = None
    expires: float | None = None
    expires_ms: int | None = None
    ignore_result: bool = False
    soft_timeout: float | None = None
    task_id: str | None = None

    def pauses(self) -> list[float]:
        """Return the seconds to wait before each further attempt; none if they follow at once."""
        return pauses_of(self.backoff, self.retries)

    def is_per_item(self) -> bool:
        """Say that each item of a map is a task of its own."""
        return True

    def is_special(self) -> bool:
        """Say whether a task with these options differs from one without any."""
        return self != NO_CLUSTER_OPTIONS

    def settings(self, pause: float) -> dict[str, Any]:
        """Return what the message of one attempt says of these options.

        Args:
            pause: seconds to wait before this attempt, beside the countdown.
        """
        found: dict[str, Any] = {
            "priority": self.priority,
            "ignore_result": self.ignore_result,
        }
        # A broker ends the connection that brings it an infinite number: it means no limit.
        if self.timeout is not None and self.timeout < math.inf:
            found["hard"] = self.timeout
        if self.soft_timeout is not None and self.soft_timeout < math.inf:
            found["soft"] = self.soft_timeout
        wait = pause + (self.countdown or 0.0)
        if wait > 0:
            found["eta_ms"] = milliseconds(wait)
        if self.eta_ms is not None:
            found["eta_ms"] = max(self.eta_ms, found.get("eta_ms", 0))
        if self.expires is not None:
            found["expires_ms"] = milliseconds(self.expires)
        if self.expires_ms is not None:
            found["expires_ms"] = self.expires_ms
        if self.name is not None:
            found["shadow"] = self.name
        return found


NO_CLUSTER_OPTIONS: Final = ClusterOptions()

# Messages have moments as ISO 8601 writes them: no year has more than four digits.
_YEAR_10000_MS: Final = 253_402_300_800_000


def milliseconds(seconds: float = 0.0) -> int:
    """Return the moment so many seconds from now, in milliseconds since 1970."""
    return int((time() + seconds) * 1000)


def moment(name: str, when: When) -> tuple[float | None, int | None]:
    """Return a moment as seconds from a submission, or as milliseconds since 1970.

    Raises:
        TypeError, ValueError: it is neither a datetime nor seconds.
    """
    if isinstance(when, datetime):
        try:
            since_1970 = int(when.timestamp() * 1000)
        except (ValueError, OverflowError):  # local time beside the first or the last moment
            since_1970 = 0 if when.year < 5000 else _YEAR_10000_MS
        # The last ones are rounded up to the year 10000.
        return None, min(since_1970, _YEAR_10000_MS - 1)
    seconds = seconds_of(name, when)
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{name} must be seconds >= 0 or a datetime, got {when}")
    if seconds is not None and milliseconds(seconds) >= _YEAR_10000_MS:
        raise ValueError(f"{name} must end before the year 10000, got {when} seconds")
    return seconds, None


def check_name(what: str, name: object) -> str:
    """Return a name that a message can bear; TypeError and ValueError for others.

    Args:
        what: what has the name, for the error.
        name: the name; of 1 to 255 bytes.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a string, not {type(name).__name__}")
    if not 0 < len(name.encode()) <= 255:
        raise ValueError(f"{what} must have 1 to 255 bytes, got {name!r:.100}")
    return name


def check_priority(priority: int) -> int:
    """Return a priority that a broker takes; ValueError for others."""
    if not 0 <= priority <= 255:
        raise ValueError(f"a broker's priorities are from 0 to 255, got {priority}")
    return priority
