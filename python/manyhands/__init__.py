"""manyhands: one interface for every kind of worker.

    >>> import manyhands as mh
    >>> mh.map(abs, [-1, 2, -3])
    [1, 2, 3]

Names are loaded when first used, so that importing the package costs a worker process nothing.
"""

from __future__ import annotations

from manyhands._interpreter import fork as _fork  # noqa: F401 - forked children need it

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from manyhands._cluster.attempt import Attempt as Attempt
    from manyhands._cluster.attempt import MaxRetriesExceeded as MaxRetriesExceeded
    from manyhands._cluster.executor import ClusterExecutor as ClusterExecutor
    from manyhands._cluster.outcome import SoftTimeLimitExceeded as SoftTimeLimitExceeded
    from manyhands._cluster.task import Task as Task
    from manyhands._cluster.task import task as task
    from manyhands._coroutine.generator import coroutine as coroutine
    from manyhands._coroutine.generator import spawn as spawn
    from manyhands._coroutine.greenlets import await_ as await_
    from manyhands._errors.base import ManyhandsError as ManyhandsError
    from manyhands._errors.base import OwnerDied as OwnerDied
    from manyhands._errors.base import ReleaseError as ReleaseError
    from manyhands._errors.base import TaskCancelled as TaskCancelled
    from manyhands._errors.base import TaskTimeout as TaskTimeout
    from manyhands._errors.cluster import BrokerError as BrokerError
    from manyhands._errors.cluster import RemoteError as RemoteError
    from manyhands._errors.deadlock import DeadlockError as DeadlockError
    from manyhands._errors.deadlock import DeadlockMember as DeadlockMember
    from manyhands._errors.shut_down import ShutDown as ShutDown
    from manyhands._errors.worker_died import WorkerDied as WorkerDied
    from manyhands._future.cancel import check_cancelled as check_cancelled
    from manyhands._future.cancel import sleep as sleep
    from manyhands._future.future import Future as Future
    from manyhands._future.wait import as_completed as as_completed
    from manyhands._future.wait import wait as wait
    from manyhands._interpreter.own_place import worker_index as worker_index
    from manyhands._interpreter.own_place import worker_state as worker_state
    from manyhands._map.async_map import amap as amap
    from manyhands._map.choice import last_choice as last_choice
    from manyhands._map.forms import imap_unordered as imap_unordered
    from manyhands._map.forms import starmap as starmap
    from manyhands._map.map import imap as imap
    from manyhands._map.map import map as map  # noqa: A004 - the name users expect
    from manyhands._memory.share import share as share
    from manyhands._memory.shared_array import SharedArray as SharedArray
    from manyhands._memory.value import Array as Array
    from manyhands._memory.value import Value as Value
    from manyhands._pickle.findable import register_by_value as register_by_value
    from manyhands._pickle.findable import unregister_by_value as unregister_by_value
    from manyhands._pool.coroutine import CoroutinePoolExecutor as CoroutinePoolExecutor
    from manyhands._pool.greenlet import GreenletPoolExecutor as GreenletPoolExecutor
    from manyhands._pool.mp_pool import Pool as Pool
    from manyhands._pool.process import ProcessPoolExecutor as ProcessPoolExecutor
    from manyhands._pool.shared import shared_pool as shared_pool
    from manyhands._pool.thread import ThreadPoolExecutor as ThreadPoolExecutor
    from manyhands._queue.fifo import Fifo as Fifo
    from manyhands._queue.fifo import open_fifo as open_fifo
    from manyhands._queue.pipe import Connection as Connection
    from manyhands._queue.pipe import Pipe as Pipe
    from manyhands._queue.queue import JoinableQueue as JoinableQueue
    from manyhands._queue.queue import LifoQueue as LifoQueue
    from manyhands._queue.queue import PriorityQueue as PriorityQueue
    from manyhands._queue.queue import Queue as Queue
    from manyhands._queue.queue import SimpleQueue as SimpleQueue
    from manyhands._sync.barrier import Barrier as Barrier
    from manyhands._sync.condition import Condition as Condition
    from manyhands._sync.event import Event as Event
    from manyhands._sync.lock import Lock as Lock
    from manyhands._sync.lock import RLock as RLock
    from manyhands._sync.semaphore import BoundedSemaphore as BoundedSemaphore
    from manyhands._sync.semaphore import Semaphore as Semaphore

# Public name -> module that defines it.
_HOMES = {
    "Array": "manyhands._memory.value",
    "Attempt": "manyhands._cluster.attempt",
    "Barrier": "manyhands._sync.barrier",
    "BoundedSemaphore": "manyhands._sync.semaphore",
    "BrokerError": "manyhands._errors.cluster",
    "ClusterExecutor": "manyhands._cluster.executor",
    "Condition": "manyhands._sync.condition",
    "Connection": "manyhands._queue.pipe",
    "CoroutinePoolExecutor": "manyhands._pool.coroutine",
    "DeadlockError": "manyhands._errors.deadlock",
    "DeadlockMember": "manyhands._errors.deadlock",
    "Event": "manyhands._sync.event",
    "Fifo": "manyhands._queue.fifo",
    "Future": "manyhands._future.future",
    "GreenletPoolExecutor": "manyhands._pool.greenlet",
    "JoinableQueue": "manyhands._queue.queue",
    "LifoQueue": "manyhands._queue.queue",
    "Lock": "manyhands._sync.lock",
    "ManyhandsError": "manyhands._errors.base",
    "MaxRetriesExceeded": "manyhands._cluster.attempt",
    "OwnerDied": "manyhands._errors.base",
    "Pipe": "manyhands._queue.pipe",
    "Pool": "manyhands._pool.mp_pool",
    "PriorityQueue": "manyhands._queue.queue",
    "ProcessPoolExecutor": "manyhands._pool.process",
    "Queue": "manyhands._queue.queue",
    "RLock": "manyhands._sync.lock",
    "RemoteError": "manyhands._errors.cluster",
    "ReleaseError": "manyhands._errors.base",
    "Semaphore": "manyhands._sync.semaphore",
    "SharedArray": "manyhands._memory.shared_array",
    "ShutDown": "manyhands._errors.shut_down",
    "SimpleQueue": "manyhands._queue.queue",
    "SoftTimeLimitExceeded": "manyhands._cluster.outcome",
    "Task": "manyhands._cluster.task",
    "TaskCancelled": "manyhands._errors.base",
    "TaskTimeout": "manyhands._errors.base",
    "ThreadPoolExecutor": "manyhands._pool.thread",
    "Value": "manyhands._memory.value",
    "WorkerDied": "manyhands._errors.worker_died",
    "amap": "manyhands._map.async_map",
    "as_completed": "manyhands._future.wait",
    "await_": "manyhands._coroutine.greenlets",
    "check_cancelled": "manyhands._future.cancel",
    "coroutine": "manyhands._coroutine.generator",
    "imap": "manyhands._map.map",
    "imap_unordered": "manyhands._map.forms",
    "last_choice": "manyhands._map.choice",
    "map": "manyhands._map.map",
    "open_fifo": "manyhands._queue.fifo",
    "register_by_value": "manyhands._pickle.findable",
    "share": "manyhands._memory.share",
    "shared_pool": "manyhands._pool.shared",
    "sleep": "manyhands._future.cancel",
    "spawn": "manyhands._coroutine.generator",
    "starmap": "manyhands._map.forms",
    "task": "manyhands._cluster.task",
    "unregister_by_value": "manyhands._pickle.findable",
    "wait": "manyhands._future.wait",
    "worker_index": "manyhands._interpreter.own_place",
    "worker_state": "manyhands._interpreter.own_place",
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
