"""The libraries under test, one module each; looked up by name so that a run imports only one."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benches.contender import Contender, Group

OURS = "manyhands"

# Group -> name -> (module here, class). The order is that of tables and plots.
_HOMES: dict[Group, dict[str, tuple[str, str]]] = {
    "pools": {
        OURS: ("ours", "Manyhands"),
        "stdlib": ("stdlib", "Stdlib"),
        "mp_pool": ("mp_pool", "MultiprocessingPool"),
        "loky": ("loky", "Loky"),
        "joblib": ("joblib", "Joblib"),
        "pebble": ("pebble", "Pebble"),
        "mpire": ("mpire", "Mpire"),
        "ray": ("ray", "Ray"),
    },
    "joblib": {
        OURS: ("backends", "Manyhands"),
        "loky": ("backends", "Loky"),
        "multiprocessing": ("backends", "Multiprocessing"),
    },
    "sync": {
        OURS: ("sync.ours", "Manyhands"),
        "multiprocessing": ("sync.multiprocessing", "Multiprocessing"),
        "mp_simple_queue": ("sync.multiprocessing", "MultiprocessingSimpleQueue"),
        "mp_pipe": ("sync.multiprocessing", "MultiprocessingPipe"),
        "mp_lists": ("sync.multiprocessing", "MultiprocessingLists"),
        "threading": ("sync.threading", "Threading"),
        "simple_queue": ("sync.threading", "SimpleQueue"),
        "posix_ipc": ("sync.posix_ipc", "PosixIpc"),
        "faster_fifo": ("sync.faster_fifo", "FasterFifo"),
        "aioprocessing": ("sync.aioprocessing", "Aioprocessing"),
        "janus": ("sync.janus", "Janus"),
    },
    "servers": {
        OURS: ("servers", "Manyhands"),
        "threading_server": ("servers", "ThreadingServer"),
        "forking_server": ("servers", "ForkingServer"),
        "asyncio": ("servers", "Asyncio"),
        "uvloop": ("servers", "Uvloop"),
        "gevent": ("servers", "Gevent"),
    },
    "cluster": {
        OURS: ("cluster", "Manyhands"),
        "celery": ("cluster", "Celery"),
    },
}

NAMES = tuple(dict.fromkeys(name for homes in _HOMES.values() for name in homes))


def of_group(group: Group) -> tuple[str, ...]:
    """Return the names of a group's contenders, in their order."""
    return tuple(_HOMES[group])


def distribution(name: str) -> str | None:
    """Return what `pip install` calls a contender; None for the standard library."""
    group = next(group for group, homes in _HOMES.items() if name in homes)
    return contender(name, group).distribution


def contender(name: str, group: Group) -> type[Contender]:
    """Return the contender called `name` in its `group`. Raises KeyError for an unknown one."""
    module, attribute = _HOMES[group][name]
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
        and (distribution(name) is None or importlib.util.find_spec(str(distribution(name))))
    ]
