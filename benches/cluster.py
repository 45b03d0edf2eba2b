"""Tasks on RabbitMQ by one library: its producer here, its worker with two processes beside it."""

from __future__ import annotations

import abc
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from benches.contender import Contender

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benches.contender import Kind

WORKERS = 2
# So many messages a worker holds at most, of those that it has not acknowledged.
PREFETCH = 64
# What a worker may take to consume.
PATIENCE_S = 30.0


class WorkerFailed(Exception):
    """A worker's process has ended, or does not consume."""


class ClusterContender(Contender, abc.ABC):
    """A producer of tasks; a context manager.

    Raises ImportError when constructed without the library being installed.
    """

    # What runs the worker: the words after `python -m`.
    command: ClassVar[Sequence[str]]
    # What the worker says once it consumes.
    ready: ClassVar[str]

    def __init__(self, kind: Kind, url: str) -> None:
        self.kind: Kind = kind
        self.url = url

    @abc.abstractmethod
    def start(self) -> None:
        """Connect."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Disconnect."""

    @abc.abstractmethod
    def run_all(self, numbers: Sequence[int]) -> list[int]:
        """Send one task for each number, then collect all results in order."""

    @abc.abstractmethod
    def call(self, number: int) -> int:
        """Send one task, and wait for its result."""

    @abc.abstractmethod
    def publish(self, numbers: Sequence[int]) -> None:
        """Send one task for each number whose result nobody wants; return when all are sent."""

    def __enter__(self) -> ClusterContender:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


@contextmanager
def worker(library: type[ClusterContender], url: str) -> Iterator[int]:
    """Run the library's worker; yield its process id once it consumes."""
    environment = {**os.environ, "AMQP_URL": url}
    with subprocess.Popen(
        [sys.executable, "-m", *library.command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,  # it is ended with what it has started
    ) as process:
        try:
            _await_ready(process, library.ready)
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _await_ready(process: subprocess.Popen[str], ready: str) -> None:
    """Return when the worker says that it is; what it says later is read and dropped."""
    consumes = threading.Event()
    said: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if not consumes.is_set():
                said.append(line)
            if ready in line:
                consumes.set()

    threading.Thread(target=read, daemon=True).start()
    if not consumes.wait(PATIENCE_S):
        raise WorkerFailed(f"no worker after {PATIENCE_S:.0f} s:\n{''.join(said[-20:])}")
