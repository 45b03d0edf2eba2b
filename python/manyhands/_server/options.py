"""What users may give to a server, checked."""

from __future__ import annotations

__all__ = [
    "check_grace",
    "check_words",
    "count",
    "most_connections",
    "optional_seconds",
    "seconds",
]


def check_words(workers: object, max_queue: object, overflow: object) -> None:
    """Refuse words that are none, and those that do not go together."""
    if workers not in ("thread", "process", "coroutine", "greenlet"):
        raise ValueError(
            f"workers={workers!r} must be 'thread', 'process', 'coroutine' or 'greenlet'"
        )
    if not callable(overflow) and overflow not in ("wait", "reject"):
        raise ValueError(f"overflow={overflow!r} must be 'wait', 'reject' or a function")
    if workers == "process" and (max_queue is not None or overflow != "wait"):
        raise ValueError(
            "max_queue and overflow are for threads and event loops: clients of processes wait in "
            "the listener's queue until one of them is free"
        )


def most_connections() -> int:
    """Return how many connections this process can have open, and some files besides."""
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = 4096 if soft == resource.RLIM_INFINITY else min(4096, soft * 3 // 4)
    return max(1, room)


def count(name: str, value: int | None, default: int, least: int = 1) -> int:
    """Return a whole number; `default` for None.

    Raises:
        TypeError: that is no whole number.
        ValueError: that is too small.
    """
    if value is None:
        return default
    try:
        number = value.__index__()
    except AttributeError:
        raise TypeError(f"{name}={value!r} must be a whole number or None") from None
    if number < least:
        raise ValueError(f"{name}={value!r} must be at least {least}")
    return number


def seconds(name: str, value: float, least: float | None = None) -> float:
    """Return a time in seconds, above 0 or at least `least`.

    Raises:
        TypeError: that is no number.
        ValueError: that is no such time.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number of seconds")
    low = value < least if least is not None else value <= 0
    if low or value != value:  # NaN
        raise ValueError(
            f"{name}={value!r} must be {'at least 0' if least is not None else 'above 0'} seconds"
        )
    return float(value)


def check_grace(grace: float | None) -> float:
    """Return the seconds that handlers are given; 0 for None.

    Raises:
        ValueError: that is no time.
        TypeError: that is no number.
    """
    return 0.0 if grace is None else seconds("grace", grace, 0.0)


def optional_seconds(name: str, value: float | None) -> float | None:
    """Return a time in seconds above 0, or None for none."""
    return None if value is None else seconds(name, value)
