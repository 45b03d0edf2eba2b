"""All kinds of pool, and the loops of their workers."""

from collections.abc import Callable, Iterable
from contextvars import Context
from threading import Thread
from typing import Any, Self, final

from manyhands._future.future import Future
from manyhands._worker.worker import Hooks

class ThreadPoolBase:
    """The native half of `ThreadPoolExecutor`."""

    def _open(self, max_workers: int, idle_timeout: float, crew: object) -> None: ...
    def _close(self, cancel_futures: bool) -> None: ...
    def _ask_all(self) -> None: ...
    def _size(self) -> tuple[int, int]:
        """Return how many workers there are, and how many tasks that have not ended."""
    def _statistics(self) -> dict[str, Any]: ...
    @staticmethod
    def _blocked(futures: Iterable[object]) -> _BlockedWorker | None: ...

@final
class _BlockedWorker:
    """While it is entered, its pool may run one more thread."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

@final
class ThreadWorker:
    """A worker of a thread pool, for the thread that will be it."""

    @property
    def number(self) -> int: ...
    @property
    def closing(self) -> bool: ...
    def use_base(self, base: Context) -> None: ...
    def run(self, thread: Thread) -> None: ...
    def break_pool(self, message: str) -> bool: ...
    def await_arrival(self) -> None: ...
    def fail_to_begin(self, cause: BaseException) -> None: ...
    def dismiss(self) -> None: ...

def forget_functions() -> None:
    """Have all pools pickle their functions again: what was found of them no longer holds."""

def close_thread_pools() -> None:
    """Close every thread pool: the interpreter is going down."""

def stop_deadlines() -> None:
    """Stop the thread that watches deadlines."""

def restart_thread_pools() -> None:
    """Give every thread pool a fresh start in the child of a fork."""

@final
class ProcessEngine:
    """The native half of `ProcessPoolExecutor`; times in seconds."""

    def __init__(
        self,
        *,
        program: str,
        arguments: list[str],
        environment: list[tuple[str, str | None]],
        set_up: bytes,
        descriptors: list[int],
        workers: int,
        idle_timeout: float | None,
        grace: float,
        forwarder: object,
    ) -> None: ...
    def submit(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], /
    ) -> Future[Any]: ...
    def submit_with(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        /,
        *,
        timeout: float | None,
        retries: int,
        retry_on: tuple[type[BaseException], ...],
        pauses: list[float],
        priority: int,
        name: str | None,
        future: Future[Any] | None,
    ) -> Future[Any]: ...
    def prepare(self) -> None: ...
    def reserve(self) -> None: ...
    def give_back(self) -> None: ...
    def collect(self) -> None: ...
    def close(self) -> None: ...
    def cancel_queued(self) -> None: ...
    def stop(self) -> None: ...
    def terminate(self) -> None: ...
    def join(self, timeout: float) -> bool: ...
    def resize(self, workers: int) -> None: ...
    def pids(self) -> list[int]: ...
    def is_staffing(self) -> bool: ...
    def wait_status(self, pid: int) -> int | None: ...
    def unfinished(self) -> int: ...
    def broken(self) -> str | None: ...
    def has_ended(self) -> bool: ...
    def statistics(self) -> dict[str, Any]: ...
    @staticmethod
    def statistics_before_start() -> dict[str, Any]: ...
    def abandon(self) -> None: ...

@final
class WorkerLoop:
    """Runs tasks in a worker process."""

    def __init__(
        self,
        participant: int,
        control: int,
        status: int,
        reports_fd: int,
        most_tasks: int,
        most_bytes: int,
    ) -> None: ...
    def run(self, hooks: Hooks) -> None: ...

def guard_holds(guard: tuple[tuple[object, str, object], ...]) -> bool:
    """Whether everything that a guard of `function_key` names is still what it was."""

def ask_again_if_ignored(hook: Callable[[Any], object], unraisable: Any, /) -> None:
    """Pass an ignored exception on to `hook`, unless it asks the running task to stop: do so again.

    For `sys.unraisablehook` in a worker.
    """

def cancel_requested() -> bool:
    """Return whether the task that runs at this moment has been asked to stop, in a worker."""

@final
class LoopBell:
    """What wakes the event loop of one thread, and completes its futures."""

    def __init__(self) -> None: ...
    @property
    def is_rung(self) -> bool:
        """Whether it has been rung and the loop has not answered yet."""
    def open(self) -> int:
        """Return the number of a descriptor that is readable when it was rung."""
    def close(self) -> None: ...
    def ring(self) -> None:
        """Have the loop look."""
    def drain(self) -> None: ...
    def answer(self) -> None: ...
    def linger(self) -> bool:
        """Look for a moment whether somebody rings; only for a loop that has nothing to do."""
    def tell(self) -> None: ...
    def succeed(self, future: Future[Any], result: object, lingers: bool) -> bool: ...
    def fail(self, future: Future[Any], error: BaseException, lingers: bool) -> bool: ...

@final
class PythonTasks:
    """Makes the futures of one pool whose tasks Python hands out."""

    def __init__(self, ask: Callable[[int, bool], bool], kind: str) -> None: ...
    @property
    def cancelled(self) -> int: ...
    def future(self, token: int) -> Future[Any]: ...
    def adopt(self, future: Future[Any], token: int) -> bool: ...
    def cancel(self, future: Future[Any]) -> bool: ...
    def mark_thread(self, runs: bool) -> None: ...
    def statistics(
        self,
        workers: list[dict[str, Any]],
        queued: int,
        running: int,
        done: int,
        failed: int,
        retried: int,
    ) -> dict[str, Any]: ...
    @staticmethod
    def worker_statistics(
        thread: Thread, task: str | None, task_s: float | None, tasks_done: int
    ) -> dict[str, Any]: ...
    @staticmethod
    def orphan(future: Future[Any], what: str = "the coroutine") -> None: ...
