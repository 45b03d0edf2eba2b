"""Servers with two workers, started as their own documentation says, and what a reload is there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata

from benches.chaos.client import HOST
from benches.run import ROOT

WORKERS = 2
# How long a server may take to listen, and to end.
PATIENCE_S = 30.0


class SupervisorEnded(Exception):
    """A server has ended by itself."""


@dataclass(frozen=True)
class Kind:
    """A way to serve.

    Args:
        distribution: the package it comes in.
        words: its command line after ``python -m``; ``{port}`` is where it listens.
        rest_s: for how many seconds a new worker must live, or the server gives up.
    """

    distribution: str
    words: str
    rest_s: float = 0.0

    def version(self) -> str:
        """Return which version is installed.

        Raises:
            PackageNotFoundError: none is.
        """
        return metadata.version(self.distribution)


_APPLICATION = "benches.chaos.application"
_MANYHANDS = f"manyhands serve --bind {HOST}:{{port}} --workers process:{WORKERS}"
_GUNICORN = f"gunicorn --bind {HOST}:{{port}} --workers {WORKERS}"
# The package of our own.
OURS = "manyhands"
# All are reloaded by SIGHUP.
KINDS = {
    "manyhands": Kind(OURS, f"{_MANYHANDS} {_APPLICATION}:handler"),
    "manyhands async": Kind(OURS, f"{_MANYHANDS} {_APPLICATION}:stream"),
    "manyhands wsgi": Kind(OURS, f"{_MANYHANDS} --wsgi {_APPLICATION}:wsgi"),
    "manyhands asgi": Kind(OURS, f"{_MANYHANDS} --asgi {_APPLICATION}:asgi"),
    "uvicorn": Kind(
        "uvicorn",
        f"uvicorn {_APPLICATION}:asgi --host {HOST} --port {{port}} --workers {WORKERS} "
        "--no-access-log",
    ),
    "granian": Kind(
        "granian",
        f"granian {_APPLICATION}:asgi --interface asgi --host {HOST} --port {{port}} "
        f"--workers {WORKERS} --respawn-failed-workers",
        # A worker that ends within 5.5 s is a "crash loop", after which it ends itself.
        rest_s=6.0,
    ),
    "gunicorn gthread": Kind(
        "gunicorn", f"{_GUNICORN} --worker-class gthread --threads 16 {_APPLICATION}:wsgi"
    ),
    "gunicorn asgi": Kind("gunicorn", f"{_GUNICORN} --worker-class asgi {_APPLICATION}:asgi"),
}


class Supervisor:
    """A running server: a context manager, which ends it.

    Args:
        kind: which.
        log: gets what it says; None: whoever gets what we say.
    """

    def __init__(self, kind: Kind, log: int | None = subprocess.DEVNULL) -> None:
        with socket.create_server((HOST, 0)) as free:
            self.port = free.getsockname()[1]
        # A group of its own, so that its workers can be ended with it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", *kind.words.format(port=self.port).split()],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )

    def __enter__(self) -> Supervisor:
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.check()
            try:
                socket.create_connection((HOST, self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        raise SupervisorEnded(f"it does not listen after {PATIENCE_S:.0f} s")

    def reload(self) -> None:
        """Have it replace its workers."""
        self._process.send_signal(signal.SIGHUP)

    def check(self) -> None:
        """Raise SupervisorEnded if it has ended."""
        if (code := self._process.poll()) is not None:
            raise SupervisorEnded(f"it has ended with {code}")

    def end(self) -> None:
        """End it and its workers."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody of the group is left
        self._process.wait()
