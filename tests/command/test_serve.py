"""`manyhands serve`: how it begins, reloads and ends, and what it tells systemd."""

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

import pytest

from eventually import eventually
from manyhands import _native
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
    folder: Path, *options: str, pass_fds: Sequence[int] = (), **more: str
) -> Iterator[Serving]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **more}
    with subprocess.Popen(
        [*COMMAND, "handlers:answer", *options],
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["thread:4", "process:1"])
def test_it_serves_until_a_signal(tmp_path: Path, workers: str, number: signal.Signals) -> None:
    write(tmp_path, "one")
    with serve(tmp_path, "--bind", "127.0.0.1:0", "--workers", workers) as serving:
        version, pid = serving.ask()
        assert version == "one"
        assert (pid == serving.process.pid) == workers.startswith("thread")
        assert serving.end(number) == 0
    kind = "4 threads" if workers.startswith("thread") else "1 processes"
    assert serving.said[0].endswith(f" with {kind}\n")
    assert len(serving.said) == 1, serving.said


def test_a_reload_loses_no_connection(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with serve(tmp_path, "--bind", "127.0.0.1:0", "--workers", "process:2") as serving:
        host, port = serving.address()
        reports = []

        def load() -> None:
            reports.append(
                _native.run_load(
                    f"{host}:{port}",
                    connections=4,
                    request=b"x",
                    answer=5,
                    reconnect=True,
                    seconds=4.0,
                )
            )

        loading = threading.Thread(target=load)
        loading.start()
        assert serving.ask()[0] == "one"
        write(tmp_path, "two")
        serving.process.send_signal(signal.SIGHUP)
        eventually(lambda: serving.versions() == {"two"}, "the new ones answer")
        write(tmp_path, "three", "def answer(: this is no Python")
        serving.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("the old ones go on" in line for line in serving.said), "it is said")
        # One of the first may not have heard yet that its time is over.
        eventually(lambda: serving.versions() == {"two"}, "only the second ones answer")
        loading.join(WATCHDOG)
        (report,) = reports
        assert report["failures"] == {}
        assert len(report["waits"]) > 100
        assert any("SyntaxError" in line for line in serving.said)
        assert serving.end() == 0


def test_threads_cannot_be_reloaded_and_go_on(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with serve(tmp_path, "--bind", "127.0.0.1:0") as serving:
        assert serving.ask()[0] == "one"
        serving.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("cannot be reloaded" in line for line in serving.said), "it is said")
        assert serving.ask()[0] == "one"
        assert serving.end() == 0


def test_it_is_a_service_of_systemd(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        manager.settimeout(WATCHDOG)
        manager.bind(str(tmp_path / "notify"))
        # As systemd does: the socket is number 3, and the variable names the new process.
        words = [*COMMAND, "handlers:answer"]
        program = (
            "import os; os.environ['LISTEN_PID'] = str(os.getpid()); "
            f"os.dup2({listening.fileno()}, 3); os.execv({words[0]!r}, {words!r})"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")},
            pass_fds=[listening.fileno(), 3],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert manager.recv(100) == b"READY=1"
                with socket.create_connection(listening.getsockname(), WATCHDOG) as connection:
                    connection.sendall(b"x")
                    assert connection.recv(100).startswith(b"one")
                process.terminate()
                assert manager.recv(100) == b"STOPPING=1"
                assert process.wait(WATCHDOG) == 0
            finally:
                process.kill()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere:answer"], "there is no module 'nowhere' in"),
        (["handlers:nobody"], "handlers has no 'nobody'"),
        (["handlers"], "write module:handler"),
        (["handlers:answer", "--bind", "nowhere"], "no address"),
        (["handlers:answer", "--bind", "fd:77"], "no inherited socket"),
        (["handlers:later"], "later is an async function"),
        (["handlers:answer", "--certificate", "missing.pem"], "missing.pem"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    tmp_path: Path, words: list[str], text: str
) -> None:
    write(tmp_path, "one", HANDLER + "\nasync def later(reader, writer): ...\n")
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.startswith("manyhands: ") and done.stderr.count("\n") == 1, done.stderr
