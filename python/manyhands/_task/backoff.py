"""How long a task that has failed waits for its next attempt."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_backoff", "pauses_of"]

# Doubling ends here, in seconds.
LONGEST: Final = 60.0
# So many pauses are worked out when a task is submitted; the last holds for all that follow.
MOST: Final = 32
# Tasks that fail together must not all come back together.
JITTER: Final = (0.75, 1.25)


def check_backoff(backoff: Any) -> None:
    """Raise TypeError or ValueError if `backoff` is neither seconds nor callable nor None."""
    if backoff is None or callable(backoff):
        return
    if not isinstance(backoff, Real) or isinstance(backoff, bool):
        kind = type(backoff).__name__
        raise TypeError(f"backoff must be seconds, a callable or None, not {kind}")
    if not 0 <= float(backoff) < math.inf:
        raise ValueError(f"backoff must be seconds >= 0, got {backoff}")


def pauses_of(backoff: float | Callable[[int], float] | None, retries: int) -> list[float]:
    """Return the seconds to wait before each of `retries` further attempts.

    Raises:
        TypeError, ValueError: a callable has returned something else than seconds.

    Example:
        >>> pauses_of(lambda attempt: attempt / 10, 3)
        [0.1, 0.2, 0.3]
        >>> [0.75 <= pause / expected <= 1.25
        ...  for pause, expected in zip(pauses_of(0.5, 4), [0.5, 1, 2, 4])]
        [True, True, True, True]
    """
    count = min(retries, MOST)
    if backoff is None:
        return []
    if callable(backoff):
        return [_checked(backoff(attempt)) for attempt in range(1, count + 1)]
    first = float(backoff)
    longest = max(first, LONGEST)
    doubled = (min(first * 2**attempt, longest) for attempt in range(count))
    # Imported here, since a program's first pool would start later. Not the module's own generator,
    # which programs seed to get the same numbers each time.
    from random import Random

    uniform = Random().uniform
    return [seconds * uniform(*JITTER) for seconds in doubled]


def _checked(seconds: Any) -> float:
    if not isinstance(seconds, Real) or isinstance(seconds, bool):
        raise TypeError(f"backoff must return seconds, not {type(seconds).__name__}")
    if not 0 <= float(seconds) < math.inf:
        raise ValueError(f"backoff must return seconds >= 0, not {seconds}")
    return float(seconds)
