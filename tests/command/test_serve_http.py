"""`manyhands serve --wsgi` and `--asgi`: signals, systemd, and reloads under load."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPException
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from eventually import eventually
from http_client import CERTIFICATE, Connection, ask
from serve_command import COMMAND, Serving, serve
from serving import WATCHDOG

APPS = Path(__file__).parent.parent / "support" / "http_apps.py"
BOTH = pytest.mark.parametrize("interface", ["wsgi", "asgi"])


def server_of(serving: Serving) -> SimpleNamespace:
    return SimpleNamespace(server_address=serving.address())


def write(folder: Path, version: int = 0) -> None:
    """Write the application, which answers with its version and process."""
    text = APPS.read_text().replace('b"%d" % os.getpid()', f'b"{version} %d" % os.getpid()')
    (folder / "shop.py").write_text(text)


@BOTH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal(tmp_path: Path, interface: str, number: signal.Signals) -> None:
    write(tmp_path)
    words = [f"--{interface}", f"shop:{interface}", "--bind", "127.0.0.1:0"]
    with serve(tmp_path, *words) as serving:
        version, pid = ask(server_of(serving), "/").body.split()
        assert version == b"0" and int(pid) != serving.process.pid
        assert serving.end(number) == 0
    assert [line.partition(" with ")[2] for line in serving.said] == ["1 process\n"]


@BOTH
def test_tls_by_the_files_of_a_certificate(tmp_path: Path, interface: str) -> None:
    write(tmp_path)
    words = [f"--{interface}", f"shop:{interface}", "--bind", "127.0.0.1:0"]
    with serve(tmp_path, *words, "--certificate", str(CERTIFICATE)) as serving:
        assert ask(server_of(serving), "/echo", b"x", tls=True).body == b"x"
        assert serving.end() == 0


def test_threads_are_one_process(tmp_path: Path) -> None:
    """As many requests at a time as it has threads."""
    write(tmp_path)
    words = ["--wsgi", "shop:wsgi", "--bind", "127.0.0.1:0", "--workers", "thread:3"]
    with serve(tmp_path, *words) as serving:
        connections = [Connection(serving.address()) for _ in range(4)]
        for connection in connections:
            connection.connect()
            connection.request("GET", f"/hold?{tmp_path}")
        eventually(lambda: len(list(tmp_path.glob("begun-*"))) == 3, "three have a thread")
        (tmp_path / "go").touch()
        assert len({connection.read().body for connection in connections}) == 1
        for connection in connections:
            connection.close()
        assert serving.end() == 0


@BOTH
def test_it_is_a_service_of_systemd(tmp_path: Path, interface: str) -> None:
    write(tmp_path)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        manager.settimeout(WATCHDOG)
        manager.bind(str(tmp_path / "notify"))
        words = [*COMMAND, f"--{interface}", f"shop:{interface}"]
        program = (
            "import os; os.environ['LISTEN_PID'] = str(os.getpid()); "
            f"os.dup2({listening.fileno()}, 3); os.execv({words[0]!r}, {words!r})"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")},
            pass_fds=[listening.fileno(), 3],
        ) as process:
            try:
                assert manager.recv(200).startswith(b"READY=1\n")
                server = SimpleNamespace(server_address=listening.getsockname())
                assert ask(server, "/echo", b"x").body == b"x"
                process.terminate()
                assert manager.recv(100) == b"STOPPING=1"
                assert process.wait(WATCHDOG) == 0
            finally:
                process.kill()


@BOTH
def test_without_descriptors_clients_wait(tmp_path: Path, interface: str) -> None:
    write(tmp_path)
    words = [f"--{interface}", f"shop:{interface}", "--bind", "127.0.0.1:0"]
    with serve(tmp_path, *words, "--max-connections", "1000") as serving:
        address = serving.address()
        pid = int(ask(server_of(serving), "/").body.split()[1])
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (50, 50))
        connections = [Connection(address) for _ in range(100)]
        for connection in connections:
            connection.connect()
            connection.request("GET", "/")
        eventually(lambda: "accepts nothing for now" in "".join(serving.said), "it is said")
        for connection in connections:
            assert int(connection.read().body.split()[1]) == pid
            connection.close()
        assert serving.end() == 0
    # Once for each time that there was room in between, but not for each try.
    assert sum("accepts nothing" in line for line in serving.said) < len(connections)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--asgi", "shop:unchecked"], "it is an application for WSGI: use --wsgi"),
        (["--wsgi", "shop:asgi"], "it is an application for ASGI: use --asgi"),
        (["--wsgi", "shop:nobody"], "shop has no 'nobody'"),
        (["--asgi", "shop:asgi", "--workers", "thread:4"], "use 'process'"),
        (["--wsgi", "shop:wsgi", "--overflow", "reject"], "use max_connections"),
        (["--wsgi", "shop:wsgi", "--certificate", "missing.pem"], "missing.pem"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    tmp_path: Path, words: list[str], text: str
) -> None:
    write(tmp_path)
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 1 and text in done.stderr
    assert done.stderr.startswith("manyhands: ") and done.stderr.count("\n") == 1, done.stderr


class Failure(NamedTuple):
    began: float
    ended: float
    error: Exception


class Load:
    """Clients that ask all the time, each over one connection or over another each time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._is_over = threading.Event()
        self.answered = 0
        self.failures: list[Failure] = []
        self.versions: set[bytes] = set()
        clients = [self._ask_anew, self._ask_anew, self._ask_on, self._ask_on]
        self._threads = [threading.Thread(target=client) for client in clients]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(WATCHDOG)

    def _ask_anew(self) -> None:
        while not self._is_over.is_set():
            connection = Connection(self._address)
            self._ask(connection, is_new=True)
            connection.close()

    def _ask_on(self) -> None:
        connection, is_new = Connection(self._address), True
        while not self._is_over.is_set():
            is_good = self._ask(connection, is_new)
            is_new = not is_good
            if is_new:
                connection.close()
        connection.close()

    def _ask(self, connection: Connection, is_new: bool) -> bool:
        """Ask once; False if the connection is over."""
        began = time.monotonic()
        try:
            if is_new:
                connection.connect()
            answer = connection.ask("/")
            assert answer.status == 200, answer
        except (OSError, HTTPException, AssertionError) as error:
            # A connection that has been used may be closed at any time between two requests: HTTP
            # has clients ask again then.
            if is_new:
                self.failures.append(Failure(began, time.monotonic(), error))
            return False
        self.answered += 1
        self.versions.add(answer.body.split()[0])
        return answer.headers["connection"] != "close"


@BOTH
@pytest.mark.slow
@pytest.mark.timeout(240)  # ten processes are started, beside a load
def test_reloads_and_a_death_under_load(tmp_path: Path, interface: str) -> None:
    write(tmp_path)
    words = [f"--{interface}", f"shop:{interface}", "--bind", "127.0.0.1:0"]
    with serve(tmp_path, *words, "--workers", "process:2") as serving:
        server = server_of(serving)
        load = Load(serving.address())
        try:
            killed = []
            for version in range(1, 6):
                write(tmp_path, version)
                serving.process.send_signal(signal.SIGHUP)
                new = b"%d" % version
                eventually(
                    lambda new=new: {ask(server, "/").body.split()[0] for _ in range(9)} == {new},  # type: ignore[misc]
                    "the new ones serve",
                )
                if version == 3:
                    killed.append(time.monotonic())
                    os.kill(int(ask(server, "/").body.split()[1]), signal.SIGKILL)
                    killed.append(time.monotonic())
                    eventually(lambda: "takes its place" in "".join(serving.said), "it is said")
        finally:
            load.end()
        assert serving.end() == 0
    assert load.versions >= {b"%d" % version for version in range(6)}
    assert load.answered > 500
    # Those that the killed one was serving, which are no more than the clients.
    during = [each for each in load.failures if each.ended > killed[0] and each.began < killed[1]]
    assert load.failures == during and len(during) <= 4
    assert "unserved" not in "".join(serving.said)
