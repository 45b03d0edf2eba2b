"""Processes that hold something, to be stopped or killed; started in every way there is.

They announce themselves by files, as `tasks` do, so that no object under test is needed for it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import manyhands as mh
import tasks
from eventually import begun, eventually

START_METHODS = ("fork", "spawn", "forkserver")
# How a process gets hold of an object: by inheritance, pickled to a child, or in a task. How it
# waits is the same then, so one way does for what is run again to wait otherwise.
WAYS = ("fork",) if "MANYHANDS_NO_WAITV" in os.environ else (*START_METHODS, "worker")
JOIN_S = 20.0


class Holder:
    """A process that runs `fn(folder, name, *args)`, and is known by its announcement."""

    def __init__(self, way: str, folder: Path, name: str, fn: Callable[..., object], *args: Any):
        self.way = way
        arguments = (folder, name, *args)
        if way == "worker":
            self._pool = mh.ProcessPoolExecutor(max_workers=1)
            self._future = self._pool.submit(fn, *arguments)
        else:
            context: Any = multiprocessing.get_context(way)
            self._process = context.Process(target=fn, args=arguments)
            self._process.start()
        try:
            self.pid = begun(folder, name)
        except BaseException:
            self.end(kill=True)
            raise

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, and do not yet collect what is left of it."""
        self.send(signal.SIGKILL)

    def ended_well(self) -> None:
        """Wait until the function has returned; fail if it has raised."""
        if self.way == "worker":
            self._future.result(JOIN_S)
        else:
            self._process.join(JOIN_S)
            assert self._process.exitcode == 0

    def end(self, kill: bool) -> None:
        """Collect what is left of it."""
        if self.way == "worker":
            if kill and hasattr(self, "pid"):
                with contextlib.suppress(ProcessLookupError):
                    self.kill()
                self._future.exception(JOIN_S)
            self._pool.shutdown(cancel_futures=True)
        else:
            if kill:
                self._process.kill()
            self._process.join(JOIN_S)
            self._process.close()


@contextlib.contextmanager
def running(
    way: str, folder: Path, name: str, fn: Callable[..., object], *args: Any
) -> Iterator[Holder]:
    """Have a process run the function; leave none behind."""
    holder = Holder(way, folder, name, fn, *args)
    try:
        yield holder
    finally:
        holder.end(kill=True)


def hold(folder: Path, name: str, *things: Any) -> None:
    """Acquire the things, announce it, and release them when the file ``go`` appears."""
    for thing in things:
        thing.acquire()
    tasks.hold(folder, name)
    for thing in reversed(things):
        thing.release()


def call(folder: Path, name: str, fn: Callable[..., object], *args: Any) -> None:
    """Announce that the function is about to be called, and call it."""
    tasks.announce(folder, name)
    fn(*args)


def waiting(primitive: Any, count: int = 1) -> None:
    """Return when so many wait for the primitive."""
    eventually(lambda: primitive.statistics()["waiting"] >= count, f"{count} wait")


def is_free(lock: Any) -> bool:
    """Whether another thread could have the lock."""
    with ThreadPoolExecutor(1) as other:
        got = other.submit(lock.acquire, False).result()
        if got:
            other.submit(lock.release).result()
        return bool(got)


def state_of(pid: int, thread: int | None = None) -> str:
    """Return the kernel's letter for what a thread, by default the first one, is doing."""
    status = Path(f"/proc/{pid}/task/{thread or pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0]


def asleep(pid: int, thread: int | None = None) -> None:
    """Return when a thread of a process sleeps in the kernel."""
    eventually(lambda: state_of(pid, thread) in "SZ", "it sleeps")
    assert state_of(pid, thread) != "Z", "the process has ended"


def stopped(pid: int) -> None:
    """Return when a process that was sent SIGSTOP has stopped."""
    eventually(lambda: state_of(pid) == "T", "it has stopped")


def pass_without_waitv(file: str, timeout_s: float) -> None:
    """Run the tests of a file once more, as on a kernel without futex_waitv."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        env={**os.environ, "MANYHANDS_NO_WAITV": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-10_000:]
