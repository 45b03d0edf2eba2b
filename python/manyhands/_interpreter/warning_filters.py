"""Which warnings the calling code wants to see.

Imported by every worker, so it imports next to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from contextvars import ContextVar
    from typing import Any

__all__ = ["effective", "is_their_context"]


def effective() -> list[Any]:
    """Return the warning filters that count here and now.

    From CPython 3.14 on, with ``-X context_aware_warnings`` (what free-threaded builds do unless
    told otherwise), ``catch_warnings()`` keeps them in a context variable instead of
    ``warnings.filters``.
    """
    warnings: Any = sys.modules.get("warnings")
    if warnings is None:
        return []
    get = getattr(warnings, "_get_filters", None)
    return list(warnings.filters if get is None else get())


def is_their_context(variable: ContextVar[Any]) -> bool:
    """Say whether `variable` is the one that the module warnings keeps filters in.

    It stays here: workers get the filters by themselves, each when its category is there.
    """
    return variable is getattr(sys.modules.get("warnings"), "_warnings_context", None)
