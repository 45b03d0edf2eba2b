"""What a server has counted, and how the numbers of several runs become those of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NOTHING", "lasting", "with_past"]

# What is so at the moment; everything else lasts.
NOW = ("queued", "active", "workers", "idle", "processes")
NOTHING = dict.fromkeys(("accepted", "refused", "served", "dropped", "busiest", *NOW), 0)


def lasting(numbers: Mapping[str, int]) -> dict[str, int]:
    """Return those numbers that remain when what was counted has ended.

    Example:
        >>> lasting({"served": 3, "active": 1})
        {'served': 3}
    """
    return {name: number for name, number in numbers.items() if name not in NOW}


def with_past(numbers: Mapping[str, int], past: Mapping[str, int]) -> dict[str, int]:
    """Add what was counted before.

    Example:
        >>> with_past({"served": 3, "busiest": 1, "active": 1}, {"served": 2, "busiest": 5})
        {'served': 5, 'busiest': 5, 'active': 1}
    """
    total = dict(numbers)
    for name, number in past.items():
        before = total.get(name, 0)
        total[name] = max(before, number) if name == "busiest" else before + number
    return total
