"""What a server has counted, and how the numbers of several runs become those of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NOTHING", "NUMBERS", "OF_ALL", "lasting", "with_past"]

# Name, how it behaves (total, now, most), and what it means: all numbers that there are.
NUMBERS = _native.server_numbers()
# What concerns processes, and so none of them.
OF_ALL = ("lost", "replaced", "processes")
NOW = {name for name, sort, _ in NUMBERS if sort == "now"}
MOST = {name for name, sort, _ in NUMBERS if sort == "most"}
NOTHING = {name: 0 for name, _, _ in NUMBERS}


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
        total[name] = max(before, number) if name in MOST else before + number
    return total
