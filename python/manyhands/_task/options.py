"""How to run a task: what `Executor.options` takes."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from manyhands._interpreter.deadline import seconds_of
from manyhands._task.backoff import check_backoff, pauses_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NO_OPTIONS",
    "Backoff",
    "TaskOptions",
    "check_count",
    "check_workers",
    "checked_options",
]

# Seconds before the first repetition, or a function of the repetition's number, from 1.
Backoff: TypeAlias = "float | Callable[[int], float] | None"

_PRIORITY_LIMIT: Final = 2**31
_MOST_RETRIES: Final = 2**32 - 1
_MOST_WORKERS: Final = 2**31 - 1  # more are as good as no limit


# Not a dataclass: importing those takes as long as all else that a pool needs.
class TaskOptions(NamedTuple):
    """How to run a task; made and checked by `Executor.options`.

    Attributes:
        timeout: seconds that one attempt may run (waiting in the queue does not count), or None.
        retries: how many more times a failed task is tried.
        retry_on: exceptions that are worth another try.
        priority: higher ones leave the queue first; equals in the order of submission.
        name: what the task is called in errors and statistics; None means its function's name.
        backoff: how long to wait before trying again, see `Executor.options`.
        wait_for_futures: whether futures among the arguments are waited for.
    """

    timeout: float | None = None
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    priority: int = 0
    name: str | None = None
    backoff: Backoff = None
    wait_for_futures: bool = False

    def pauses(self) -> list[float]:
        """Return the seconds to wait before each further attempt; none if they follow at once."""
        return pauses_of(self.backoff, self.retries)

    def is_per_item(self) -> bool:
        """Say whether each item of a map has to be a task of its own."""
        return self.timeout is not None or (self.backoff is not None and self.retries > 0)

    def is_special(self) -> bool:
        """Say whether a task with these options differs from one without any."""
        return (
            self.timeout is not None
            or self.retries > 0
            or self.priority != 0
            or self.name is not None
        )


NO_OPTIONS: Final = TaskOptions()


def check_workers(max_workers: int | None, default: int | None = None) -> int:
    """Return `max_workers` as an int, or `default` for None if there is one.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is less than 1 (the words are the stdlib's).
    """
    if max_workers is None and default is not None:
        return default
    return min(check_count("max_workers", max_workers), _MOST_WORKERS)


def check_count(name: str, number: object) -> int:
    """Return what the argument called `name` says as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it is less than 1 (the words are the stdlib's).
    """
    try:
        count = index(number)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(number).__name__}") from None
    if count <= 0:
        raise ValueError(f"{name} must be greater than 0")
    return count


def checked_options(
    timeout: float | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    priority: int = 0,
    name: str | None = None,
    backoff: Backoff = None,
    wait_for_futures: bool = False,
) -> TaskOptions:
    """Return options that make sense; TypeError or ValueError for others."""
    if timeout is not None:
        if not _is_real(timeout) or isinstance(timeout, bool):
            raise TypeError(f"timeout must be seconds or None, not {type(timeout).__name__}")
        timeout = seconds_of("timeout", timeout)
        assert timeout is not None
        if not timeout > 0:
            raise ValueError(f"timeout must be greater than 0, got {timeout}")
        timeout = None if math.isinf(timeout) else timeout
    if not isinstance(retries, int):
        raise TypeError(f"retries must be an integer, not {type(retries).__name__}")
    if retries < 0:
        raise ValueError(f"retries must not be negative, got {retries}")
    if retries > _MOST_RETRIES:
        raise ValueError(f"retries must be at most {_MOST_RETRIES}, got {retries}")
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"retry_on must be exception classes, got {each!r}")
    if not isinstance(priority, int):
        raise TypeError(f"priority must be an integer, not {type(priority).__name__}")
    if not -_PRIORITY_LIMIT <= priority < _PRIORITY_LIMIT:
        raise ValueError(f"priority must fit in 32 bits, got {priority}")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name must be a string or None, not {type(name).__name__}")
    if name is not None and not name.isascii():
        name = name.encode(errors="backslashreplace").decode()  # of a file that is no UTF-8
    check_backoff(backoff)
    return TaskOptions(timeout, retries, classes, priority, name, backoff, bool(wait_for_futures))


def _is_real(number: object) -> bool:
    if isinstance(number, int | float):
        return True
    from numbers import Real

    return isinstance(number, Real)
