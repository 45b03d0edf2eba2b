"""When to give up waiting."""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__ = ["deadline_of", "seconds_not_negative", "seconds_of"]


def deadline_of(timeout: Any) -> float | None:
    """Return when a wait that begins now must end, as `time.monotonic` counts; None means never.

    Raises:
        TypeError, ValueError: `timeout` is neither a number of seconds nor None.

    Example:
        >>> deadline_of(None)
        >>> deadline_of("3")
        Traceback (most recent call last):
        ...
        TypeError: timeout must be a number of seconds or None, not str
    """
    seconds = seconds_of("timeout", timeout)
    return None if seconds is None else monotonic() + seconds


def seconds_of(name: str, value: Any) -> float | None:
    """Return the seconds that an argument of that name says, or None for None.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN.
    """
    if value is None:
        return None
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
        kind = type(value).__name__
        raise TypeError(f"{name} must be a number of seconds or None, not {kind}")
    try:
        seconds = float(value)
    except OverflowError:  # an integer beyond all floats
        return float("inf") if value > 0 else float("-inf")
    if seconds != seconds:
        raise ValueError(f"{name} must be a number of seconds or None, not NaN")
    return seconds


def seconds_not_negative(name: str, value: Any) -> float | None:
    """Return what `seconds_of` does, if it is not negative.

    Raises:
        TypeError, ValueError: as `seconds_of`; or it is negative.
    """
    seconds = seconds_of(name, value)
    if seconds is not None and seconds < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return seconds
