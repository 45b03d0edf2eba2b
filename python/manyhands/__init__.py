"""manyhands: one interface for every kind of worker.

    >>> import manyhands as mh
    >>> mh.map(abs, [-1, 2, -3])
    [1, 2, 3]

Names are loaded when first used, so that importing the package costs a worker process nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from manyhands._cancel import check_cancelled as check_cancelled
    from manyhands._cancel import sleep as sleep
    from manyhands._choice import last_choice as last_choice
    from manyhands._errors import ManyhandsError as ManyhandsError
    from manyhands._errors import TaskCancelled as TaskCancelled
    from manyhands._errors import TaskTimeout as TaskTimeout
    from manyhands._errors import WorkerDied as WorkerDied
    from manyhands._future import Future as Future
    from manyhands._map import imap as imap
    from manyhands._map import map as map  # noqa: A004 - the name users expect
    from manyhands._pool import Pool as Pool
    from manyhands._process import ProcessPoolExecutor as ProcessPoolExecutor
    from manyhands._share import share as share
    from manyhands._shared_pool import shared_pool as shared_pool
    from manyhands._thread import ThreadPoolExecutor as ThreadPoolExecutor
    from manyhands._wait import as_completed as as_completed
    from manyhands._wait import wait as wait

# Public name -> module that defines it.
_HOMES = {
    "Future": "manyhands._future",
    "ManyhandsError": "manyhands._errors",
    "Pool": "manyhands._pool",
    "ProcessPoolExecutor": "manyhands._process",
    "TaskCancelled": "manyhands._errors",
    "TaskTimeout": "manyhands._errors",
    "ThreadPoolExecutor": "manyhands._thread",
    "WorkerDied": "manyhands._errors",
    "as_completed": "manyhands._wait",
    "check_cancelled": "manyhands._cancel",
    "imap": "manyhands._map",
    "last_choice": "manyhands._choice",
    "map": "manyhands._map",
    "share": "manyhands._share",
    "shared_pool": "manyhands._shared_pool",
    "sleep": "manyhands._cancel",
    "wait": "manyhands._wait",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
