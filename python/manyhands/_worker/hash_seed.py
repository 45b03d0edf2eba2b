"""The seed of ``hash()`` that all worker processes of a program have in common.

Left to itself, every interpreter draws one: keys that are sorted into buckets by ``hash(key)`` in
several pools would then be in different ones. The seed of the program itself, unless it comes from
``PYTHONHASHSEED``, nobody can hand on: it is longer than what that variable can say.
"""

from __future__ import annotations

import os

__all__ = ["adopt", "chosen", "for_workers"]

_VARIABLE = "PYTHONHASHSEED"
_chosen: dict[str, str] = {}


def chosen() -> str | None:
    """Return the seed for workers as ``PYTHONHASHSEED`` says it, or None if the user has set it.

    Example:
        >>> chosen() == chosen()
        True
    """
    if os.environ.get(_VARIABLE, "random") != "random":
        return None
    seed = _chosen.get("seed")
    if seed is None:
        # Not 0, which is no seed; and nobody outside may guess it, as with Python's own. In one
        # step: pools that threads start at the same time have the same seed.
        made = str(1 + int.from_bytes(os.urandom(4), "little") % 0xFFFF_FFFF)
        seed = _chosen.setdefault("seed", made)
    return seed


def for_workers() -> dict[str, str | None]:
    """Return the environment variables to start a zygote with."""
    seed = chosen()
    return {} if seed is None else {_VARIABLE: seed}


def adopt(seed: str) -> None:
    """Use a parent's seed for the pools of this process, and hide it from what tasks start."""
    _chosen["seed"] = seed
    os.environ.pop(_VARIABLE, None)
