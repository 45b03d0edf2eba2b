"""A server in a process of its own.

Its command is `python -m benches.server_process MODULE CLASS KIND MANNERS`.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benches.server import ServerContender

# What a server may take to listen.
PATIENCE_S = 30.0


class ServerFailed(Exception):
    """A server's process has ended, or has not begun to listen."""


class ServerProcess:
    """A process in which a library's server runs; `port` is where.

    A context manager: leaving kills the process and those it has forked. They also end when this
    process does, however that comes about: they end when nobody holds the pipe to them any more.
    """

    def __init__(self, library: type[ServerContender], manners: str, kind: str = "server") -> None:
        where = library.__module__, library.__qualname__
        # A group of its own, so that what it forks can be ended with it, and only that.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *where, kind, manners],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._process.stdout is not None
        try:
            self.port = _told(self._process.stdout)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def end(self) -> None:
        """Kill the process and what it has forked, and wait for its end."""
        # Its id stays its own until it has been waited for.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        with self._process:  # closes the pipes
            self._process.wait(PATIENCE_S)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _told(pipe: IO[bytes]) -> int:
    """Wait for the line that says where a server listens; return the port."""
    if not select.select([pipe], [], [], PATIENCE_S)[0]:
        raise ServerFailed(f"the server does not listen after {PATIENCE_S:.0f} s")
    line = pipe.readline()
    if not line:
        raise ServerFailed("the server has ended before it listened")
    return int(line)


def _end_with_starter() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _tell(port: int) -> None:
    print(port, flush=True)


def main(module: str, name: str, kind: str, manners: str) -> None:
    """Serve until this process is killed, or the one that started it has gone."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    library: Any = getattr(importlib.import_module(module), name)
    library(kind).serve(manners, _tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
