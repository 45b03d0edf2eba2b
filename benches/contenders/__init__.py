"""The libraries under test, one module each; looked up by name so that a run imports only one."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benches.contender import Contender

OURS = "manyhands"

# Name -> (module here, class). The order is that of tables and plots.
_HOMES = {
    OURS: ("ours", "Manyhands"),
    "stdlib": ("stdlib", "Stdlib"),
    "mp_pool": ("mp_pool", "MultiprocessingPool"),
    "loky": ("loky", "Loky"),
    "joblib": ("joblib", "Joblib"),
    "pebble": ("pebble", "Pebble"),
    "mpire": ("mpire", "Mpire"),
    "ray": ("ray", "Ray"),
}

NAMES = tuple(_HOMES)


def contender(name: str) -> type[Contender]:
    """Return the contender called `name`. Raises KeyError for an unknown one."""
    module, attribute = _HOMES[name]
    found: type[Contender] = getattr(
        importlib.import_module(f"benches.contenders.{module}"), attribute
    )
    return found


def installed(names: Iterable[str] = NAMES) -> list[str]:
    """Return those of `names` whose library is installed; Ray only if BENCH_RAY=1 asks for it."""
    return [
        name
        for name in names
        if (name != "ray" or os.environ.get("BENCH_RAY") == "1")
        and (
            contender(name).distribution is None
            or importlib.util.find_spec(str(contender(name).distribution)) is not None
        )
    ]
