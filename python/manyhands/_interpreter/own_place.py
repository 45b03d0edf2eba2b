"""Which worker this is, and what it keeps for its tasks.

Every worker process loads this at its start, so it imports next to nothing.
"""

from __future__ import annotations

from _thread import _local

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__ = ["WorkerState", "be_worker", "worker_index", "worker_state"]

# Of a worker process; None in any other.
process_index: int | None = None
# The globals of its ``__main__``.
main_globals: dict[str, Any] | None = None

# What this process keeps, unless the calling thread is a worker itself.
_process_state: dict[str, Any] = {}


class _Here(_local):
    """What is so in one thread: a worker's index and state."""

    index: int | None = None
    state: dict[str, Any] | None = None


_here = _Here()


def be_worker(index: int) -> None:
    """Make the calling thread the worker with this index of its pool."""
    _here.index = index
    _here.state = {}


def worker_index() -> int | None:
    """Return the index of the worker that runs the calling task; None outside of workers.

    The workers of a pool are numbered from 0, below its ``max_workers``. A worker keeps its index
    for as long as it lives, and its replacement gets it. So it can stand for what each worker must
    have for itself: a GPU, a port, a folder. Only a thread that stands in for one which waits for
    its own pool may have a higher one.

    In a thread that a task has started, it is the process that counts.

    Example:
        >>> with mh.ProcessPoolExecutor(1) as pool:
        ...     pool.submit(mh.worker_index).result()
        0
        >>> print(mh.worker_index())
        None
    """
    return process_index if _here.index is None else _here.index


def _state() -> dict[str, Any]:
    return _process_state if _here.state is None else _here.state


class WorkerState:
    """What a worker keeps from task to task: any attributes; of each worker its own.

    In a worker process they belong to the process, with all threads of it; in a worker thread, to
    that thread alone. Outside of workers they belong to the process, so that a function works the
    same when it is called directly, and in maps that find it fastest to run it in the caller.

    The pool's ``initializer`` is the place to set them. They are gone when the worker ends.

    Raises:
        AttributeError: the worker has no such attribute.

    Example:
        >>> def connect(where):
        ...     mh.worker_state.connection = f"connection of {where} {mh.worker_index()}"
        >>> def query():
        ...     return mh.worker_state.connection
        >>> with mh.ThreadPoolExecutor(1, initializer=connect, initargs=("worker",)) as pool:
        ...     pool.submit(query).result()
        'connection of worker 0'
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return _state()[name]
        except KeyError:
            pass
        # Protocols of Python's own, such as those of copying, only look whether it has them.
        text = f"this worker's state has no {name!r}"
        if not name.startswith("__"):
            text += f": set mh.worker_state.{name} in the initializer of the pool"
        raise AttributeError(text, name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        _state()[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in _state():
            raise AttributeError(f"this worker's state has no {name!r}", name=name, obj=self)
        del _state()[name]

    def __dir__(self) -> list[str]:
        return sorted(_state())

    def __repr__(self) -> str:
        index = worker_index()
        whose = "no worker" if index is None else f"worker {index}"
        return f"<state of {whose}: {', '.join(sorted(_state())) or 'empty'}>"

    def __reduce__(self) -> str:
        # Whoever gets it has its own.
        return "worker_state"


worker_state = WorkerState()
