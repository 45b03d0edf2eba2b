"""`manyhands serve` as a process of a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eventually import eventually
from serving import WATCHDOG

COMMAND = [sys.executable, "-m", "manyhands", "serve"]
HANDLER = """
import os
def answer(connection):
    while connection.recv(100):
        connection.sendall(b"VERSION %d\\n" % os.getpid())
"""


def write(folder: Path, version: str, text: str = HANDLER) -> None:
    (folder / "handlers.py").write_text(text.replace("VERSION", version))


class Serving:
    """A running command, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def stop_reading(self) -> None:
        self._reader.join(WATCHDOG)

    def address(self) -> tuple[str, int]:
        eventually(lambda: any("serving at" in line for line in self.said), "it serves")
        (line,) = (line for line in self.said if "serving at" in line)
        host, _, port = line.split()[2].rpartition(":")
        return host, int(port)

    def ask(self) -> tuple[str, int]:
        """Return the version that answers, and its process."""
        with socket.create_connection(self.address(), WATCHDOG) as connection:
            connection.sendall(b"x")
            version, pid = connection.recv(100).split()
            return version.decode(), int(pid)

    def versions(self) -> set[str]:
        """Return the versions of what answers at the moment."""
        return {self.ask()[0] for _ in range(8)}

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WATCHDOG)
        self._reader.join(WATCHDOG)
        return code


@contextmanager
def serve(
    folder: Path, *words: str, pass_fds: Sequence[int] = (), **more: str
) -> Iterator[Serving]:
    """Run `manyhands serve` with these words in a folder, and more variables in its environment."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more}
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
    ) as process:
        serving = Serving(process)
        try:
            yield serving
        finally:
            process.kill()
            serving.stop_reading()
