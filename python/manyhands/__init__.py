"""manyhands: one interface for every kind of worker.

    >>> import manyhands as mh
    >>> mh.map(abs, [-1, 2, -3])
    [1, 2, 3]

Names are loaded when first used, so that importing the package costs a worker process nothing.
"""

from __future__ import annotations

from manyhands import _fork as _fork

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from manyhands._async_map import amap as amap
    from manyhands._barrier import Barrier as Barrier
    from manyhands._cancel import check_cancelled as check_cancelled
    from manyhands._cancel import sleep as sleep
    from manyhands._choice import last_choice as last_choice
    from manyhands._condition import Condition as Condition
    from manyhands._errors import DeadlockError as DeadlockError
    from manyhands._errors import DeadlockMember as DeadlockMember
    from manyhands._errors import ManyhandsError as ManyhandsError
    from manyhands._errors import OwnerDied as OwnerDied
    from manyhands._errors import ReleaseError as ReleaseError
    from manyhands._errors import ShutDown as ShutDown
    from manyhands._errors import TaskCancelled as TaskCancelled
    from manyhands._errors import TaskTimeout as TaskTimeout
    from manyhands._event import Event as Event
    from manyhands._fifo import Fifo as Fifo
    from manyhands._fifo import open_fifo as open_fifo
    from manyhands._findable import register_by_value as register_by_value
    from manyhands._findable import unregister_by_value as unregister_by_value
    from manyhands._future import Future as Future
    from manyhands._lock import Lock as Lock
    from manyhands._lock import RLock as RLock
    from manyhands._map import imap as imap
    from manyhands._map import map as map  # noqa: A004 - the name users expect
    from manyhands._map_forms import imap_unordered as imap_unordered
    from manyhands._map_forms import starmap as starmap
    from manyhands._own_place import worker_index as worker_index
    from manyhands._own_place import worker_state as worker_state
    from manyhands._pipe import Connection as Connection
    from manyhands._pipe import Pipe as Pipe
    from manyhands._pool import Pool as Pool
    from manyhands._process import ProcessPoolExecutor as ProcessPoolExecutor
    from manyhands._queue import JoinableQueue as JoinableQueue
    from manyhands._queue import LifoQueue as LifoQueue
    from manyhands._queue import PriorityQueue as PriorityQueue
    from manyhands._queue import Queue as Queue
    from manyhands._queue import SimpleQueue as SimpleQueue
    from manyhands._semaphore import BoundedSemaphore as BoundedSemaphore
    from manyhands._semaphore import Semaphore as Semaphore
    from manyhands._share import share as share
    from manyhands._shared_array import SharedArray as SharedArray
    from manyhands._shared_pool import shared_pool as shared_pool
    from manyhands._thread import ThreadPoolExecutor as ThreadPoolExecutor
    from manyhands._value import Array as Array
    from manyhands._value import Value as Value
    from manyhands._wait import as_completed as as_completed
    from manyhands._wait import wait as wait
    from manyhands._worker_died import WorkerDied as WorkerDied

# Public name -> module that defines it.
_HOMES = {
    "Array": "manyhands._value",
    "Barrier": "manyhands._barrier",
    "BoundedSemaphore": "manyhands._semaphore",
    "Condition": "manyhands._condition",
    "Connection": "manyhands._pipe",
    "DeadlockError": "manyhands._errors",
    "DeadlockMember": "manyhands._errors",
    "Event": "manyhands._event",
    "Fifo": "manyhands._fifo",
    "Future": "manyhands._future",
    "JoinableQueue": "manyhands._queue",
    "LifoQueue": "manyhands._queue",
    "Lock": "manyhands._lock",
    "ManyhandsError": "manyhands._errors",
    "OwnerDied": "manyhands._errors",
    "Pipe": "manyhands._pipe",
    "Pool": "manyhands._pool",
    "PriorityQueue": "manyhands._queue",
    "ProcessPoolExecutor": "manyhands._process",
    "Queue": "manyhands._queue",
    "RLock": "manyhands._lock",
    "ReleaseError": "manyhands._errors",
    "Semaphore": "manyhands._semaphore",
    "SharedArray": "manyhands._shared_array",
    "ShutDown": "manyhands._errors",
    "SimpleQueue": "manyhands._queue",
    "TaskCancelled": "manyhands._errors",
    "TaskTimeout": "manyhands._errors",
    "ThreadPoolExecutor": "manyhands._thread",
    "Value": "manyhands._value",
    "WorkerDied": "manyhands._worker_died",
    "amap": "manyhands._async_map",
    "as_completed": "manyhands._wait",
    "check_cancelled": "manyhands._cancel",
    "imap": "manyhands._map",
    "imap_unordered": "manyhands._map_forms",
    "last_choice": "manyhands._choice",
    "map": "manyhands._map",
    "open_fifo": "manyhands._fifo",
    "register_by_value": "manyhands._findable",
    "share": "manyhands._share",
    "shared_pool": "manyhands._shared_pool",
    "sleep": "manyhands._cancel",
    "starmap": "manyhands._map_forms",
    "unregister_by_value": "manyhands._findable",
    "wait": "manyhands._wait",
    "worker_index": "manyhands._own_place",
    "worker_state": "manyhands._own_place",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "_native":
        return _load_native()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def _load_native() -> object:
    """Import the native half; every module here that needs it comes by at first.

    Raises:
        ImportError: this is a sub-interpreter, or the file does not fit this Python.
    """
    import sys

    name = f"{__name__}._native"
    try:
        __import__(name)
    except ImportError as error:
        if "interpreter" not in str(error):
            raise
        raise ImportError(
            "manyhands works only in a program's main interpreter, and this is a "
            "sub-interpreter: import it in the main one, and pass the work to that (under "
            "mod_wsgi, set "
            "WSGIApplicationGroup %{GLOBAL})",
            name=name,
        ) from error
    return sys.modules[name]


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
