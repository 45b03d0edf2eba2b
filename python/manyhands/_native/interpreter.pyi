"""What this process and its interpreter are asked for."""

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, final

_P = ParamSpec("_P")
_T = TypeVar("_T")

@final
class Beginning:
    """Calls `run` in a new thread; if that raises, keeps the error and calls `tell` with it."""

    def __init__(
        self, run: Callable[[], object], tell: Callable[[BaseException], object]
    ) -> None: ...
    def __call__(self) -> None: ...
    @property
    def failure(self) -> BaseException | None: ...

@final
class Latch:
    """What threads wait for that happens once: closed at first, and open from then on."""

    @property
    def is_open(self) -> bool: ...
    def open(self) -> bool:
        """Open it, and wake all who wait; return whether it was closed before."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is open, at most `seconds`; return whether it is."""

def settle() -> None:
    """Make everything now that is made when it is first used; to be called before a fork."""

def check_cancelled() -> None:
    """Raise TaskCancelled if the running task has been asked to stop."""

def sleep(seconds: float) -> None:
    """Sleep, but raise TaskCancelled as soon as the running task is asked to stop."""

def register_switch(
    switch: Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Any] | None],
) -> None:
    """Say how a task that is a greenlet awaits a call; in a tuple, None if the caller is none."""

def count_greenlet(begins: bool) -> None:
    """Note that a greenlet of this thread begins its task, or has ended."""

def wait_switched(
    function: Callable[_P, Coroutine[Any, Any, _T]], *args: _P.args, **kwargs: _P.kwargs
) -> tuple[_T] | None:
    """Await a call, if the caller is a task that is a greenlet; the result in a tuple, or None."""

def set_parent_death_signal() -> None:
    """Have this process killed when its parent dies."""

def lend_descriptor(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function with room for one descriptor more than there would be."""

def read_at_once(path: str) -> bytes:
    """Read a file of /proc or /sys without letting other threads in."""

def cpu_times() -> tuple[float, float]:
    """Return the CPU seconds of this thread and of the process; lets other threads in."""

def probe_gil(pause: float) -> float:
    """Sleep, and return how long it then took to get the GIL, in seconds."""

def kill_with_descendants(pids: list[int]) -> None:
    """Kill children of this process, and tell all that they have started to end (SIGTERM)."""
