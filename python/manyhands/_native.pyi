"""The native half of manyhands, written in Rust (crates/python)."""

from collections.abc import Sequence
from typing import final

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

def register_future(future_class: type[FutureBase], /) -> None:
    """Make `future_class` the class of every future that executors return."""

class ThreadPoolBase:
    """The native half of `ThreadPoolExecutor`."""

    @property
    def _max_workers(self) -> int: ...
    @property
    def _shutdown(self) -> bool: ...
    @property
    def _broken(self) -> str | Literal[False]: ...
    def _open(self, max_workers: int, idle_timeout: float, crew: object) -> None: ...
    def _close(self, cancel_futures: bool) -> None: ...
    def _counts(self) -> dict[str, Any]: ...
    @staticmethod
    def _blocked() -> BlockedWorker | None: ...

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
