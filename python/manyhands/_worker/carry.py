"""How a function with large data inside it travels: as an argument of one that every worker has.

Imported by every worker, so it imports next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["carry"]


def carry(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call `function`, which travels as an argument because it may be another one for each task."""
    return function(*args, **kwargs)
