"""The native half of manyhands, written in Rust (crates/python)."""

from collections.abc import Callable, Iterable, Sequence
from threading import Thread
from typing import Any, Self, final

from manyhands._future import Future
from manyhands._worker import Hooks
from manyhands.demo import JobReport, Setting

def run_command(argv: Sequence[str]) -> int:
    """Run a command line, program name first, and return its exit status."""

@final
class DemoView:
    """Shows the demonstration's progress and results on the terminal."""

    def begin(self, setting: Setting) -> None: ...
    def progress(self, job: str, kind: str, share: float, run: int, runs: int) -> None: ...
    def finish(self, job: JobReport) -> None: ...

class FutureBase:
    """The native half of `Future`; its methods have the signatures of the stdlib's."""

    def _withdraw(self) -> bool: ...

def register_future(future_class: type[FutureBase], /) -> None:
    """Make `future_class` the class of every future that executors return."""

@final
class Tray:
    """Collects futures of this package as they are done."""

    def __new__(cls, futures: Iterable[object]) -> Self: ...
    def take(self, count: int, timeout: float | None = None) -> list[Any]:
        """Wait until there are `count`, or for `timeout` seconds, and take all that are there."""

class ThreadPoolBase:
    """The native half of `ThreadPoolExecutor`."""

    def _open(self, max_workers: int, idle_timeout: float, crew: object) -> None: ...
    def _close(self, cancel_futures: bool) -> None: ...
    def _counts(self) -> dict[str, Any]: ...
    @staticmethod
    def _blocked(futures: Iterable[object]) -> BlockedWorker | None: ...

@final
class BlockedWorker:
    """While it is entered, its pool may run one more thread."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

@final
class ThreadWorker:
    """A worker of a thread pool, for the thread that is to be it."""

    @property
    def number(self) -> int: ...
    @property
    def closing(self) -> bool: ...
    def run(self, thread: Thread) -> None: ...
    def break_pool(self, message: str) -> bool: ...
    def dismiss(self) -> None: ...

def check_cancelled() -> None:
    """Raise TaskCancelled if the running task has been asked to stop."""

def sleep(seconds: float) -> None:
    """Sleep, but raise TaskCancelled as soon as the running task is asked to stop."""

def rss_bytes() -> int | None:
    """Resident memory of this process, in bytes."""

def thread_cpu_s(thread_id: int) -> float | None:
    """CPU time of a thread of this process, in seconds."""

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
        priority: int,
        name: str | None,
    ) -> Future[Any]: ...
    def collect(self) -> None: ...
    def close(self) -> None: ...
    def cancel_queued(self) -> None: ...
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
    def abandon(self) -> None: ...

@final
class WorkerLoop:
    """Runs tasks in a worker process."""

    def __init__(
        self,
        participant: int,
        control: int,
        record: int,
        records_fd: int,
        most_tasks: int,
        most_bytes: int,
    ) -> None: ...
    def run(self, hooks: Hooks) -> None: ...

@final
class BlockBuffer:
    """A part of a block of shared memory, with the buffer protocol."""

@final
class SharedBlock:
    """A block of shared memory that several tasks may use at the same time."""

    @property
    def address(self) -> tuple[int, int, int]: ...
    @property
    def length(self) -> int: ...
    @property
    def start(self) -> int: ...
    def view(self, writable: bool) -> memoryview: ...

def attach(segment_fd: int) -> None:
    """Map the parent's segment, in a zygote."""

def read_block(reference: int) -> bytes:
    """Return the content of a block of the parent's segment, in a zygote."""

def set_parent_death_signal() -> None:
    """Have this process killed when its parent dies."""

def cancel_requested() -> bool:
    """Return whether the task that runs at this moment has been asked to stop, in a worker."""

def set_shared_memory_limit(limit: int) -> None:
    """Set the most bytes of shared memory; before any is used."""

def shared_memory() -> tuple[int, int]:
    """Return (bytes in use, limit in bytes) of this process's shared memory."""

def share_buffer(buffer: memoryview, /) -> SharedBlock:
    """Copy a contiguous buffer of bytes into shared memory."""

def open_shared(home: int, reference: int, length: int) -> SharedBlock:
    """Open a shared block by its address, in the process that made it or one of its workers."""
