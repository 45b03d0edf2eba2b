"""Processes and threads that a test starts, and that must end well."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eventually import eventually

WAIT_S = 30.0
METHODS = ("fork", "spawn", "forkserver")


@contextmanager
def child(method: str, target: Callable[..., None], *args: Any) -> Iterator[Any]:
    """Start a process that must end by itself, and well, soon after the block."""
    process = multiprocessing.get_context(method).Process(target=target, args=args)  # type: ignore[attr-defined]
    process.start()
    try:
        yield process
        process.join(WAIT_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()


@contextmanager
def thread(target: Callable[..., object], *args: Any) -> Iterator[threading.Thread]:
    """Start a thread that must end by itself soon after the block."""
    made = threading.Thread(target=target, args=args, daemon=True)
    made.start()
    yield made
    made.join(WAIT_S)
    assert not made.is_alive()


def sleeps(thread_id: int) -> bool:
    """Whether that thread of this process sleeps, until somebody wakes it."""
    try:
        with open(f"/proc/self/task/{thread_id}/wchan") as file:
            return "futex" in file.read()
    except OSError:
        return False


def another_sleeps() -> bool:
    """Whether a thread of this process other than the calling one sleeps."""
    threads = {int(task) for task in os.listdir("/proc/self/task")} - {threading.get_native_id()}
    return any(map(sleeps, threads))


def wait_until_asleep(thread_id: int) -> None:
    """Return when that thread of this process sleeps."""
    eventually(lambda: sleeps(thread_id), "the thread sleeps")
