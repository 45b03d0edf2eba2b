"""Servers whose workers are processes."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server, StreamRequestHandler
from serving import WATCHDOG, ask, client, read_all, run_program, serving

CERTIFICATE = Path(__file__).parent.parent / "support" / "localhost.pem"


def who(connection: socket.socket) -> None:
    """Answer with the number of the process."""
    while connection.recv(100):
        connection.sendall(b"%d\n" % os.getpid())


class Upper(StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


def until_both_answer(server: Server) -> set[int]:
    """Return the numbers of two processes."""
    pids: set[int] = set()
    with contextlib.ExitStack() as open_ones:

        def another() -> bool:
            connection = open_ones.enter_context(client(server))
            connection.sendall(b"x")
            pids.add(int(connection.recv(100)))
            return len(pids) == 2

        eventually(another, "both processes answer")
    return pids


def test_processes_serve_and_end() -> None:
    with serving(who, workers="process", max_workers=2) as server:
        pids = until_both_answer(server)
        assert os.getpid() not in pids
        numbers = server.statistics()
        assert numbers["processes"] == 2
        assert "2 processes" in repr(server)
    numbers = server.statistics()
    assert numbers["served"] == numbers["accepted"] >= 2
    assert numbers["processes"] == numbers["active"] == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_handlers_travel_by_value() -> None:
    word = b"dino"

    def handler(connection: socket.socket) -> None:
        connection.sendall(word)

    with serving(handler, workers="process", max_workers=1) as server:
        assert ask(server, b"") == b"dino"
    with serving(Upper, workers="process", max_workers=1) as server:
        assert ask(server, b"a\nb\n") == b"A\nB\n"


def test_a_handler_that_cannot_travel_is_refused() -> None:
    lock = threading.Lock()

    def handler(connection: socket.socket) -> None:
        with lock:
            pass

    with Server(("127.0.0.1", 0), handler, workers="process") as server:
        with pytest.raises(TypeError, match="lock"):
            server.serve_forever()


def test_a_killed_process_is_replaced_and_loses_only_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(who, workers="process", max_workers=2) as server:
        with client(server) as first, client(server) as second:
            connections = {}
            for connection in (first, second):
                connection.sendall(b"x")
                connections[int(connection.recv(100))] = connection
            victim = next(iter(connections))
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: server.statistics()["replaced"] == 1, "it is replaced")
            for pid, connection in connections.items():
                if pid != victim:
                    connection.sendall(b"x")
                    assert int(connection.recv(100)) == pid
            with contextlib.suppress(ConnectionError):
                assert read_all(connections[victim]) == b""
        after = until_both_answer(server)
        assert victim not in after
    assert "was killed by SIGKILL; another takes its place" in caplog.text


def test_clients_in_the_queue_survive_the_processes() -> None:
    with serving(who, workers="process", max_workers=1) as server:
        with client(server) as connection:
            connection.sendall(b"x")
            pid = int(connection.recv(100))
            os.kill(pid, signal.SIGSTOP)
        # The signal is on its way when kill() returns.
        state = Path(f"/proc/{pid}/stat")
        eventually(
            lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it stands still"
        )
        waiting = [client(server) for _ in range(10)]
        for connection in waiting:
            connection.sendall(b"x")
        os.kill(pid, signal.SIGKILL)
        answers = {int(connection.recv(100)) for connection in waiting}
        assert len(answers) == 1 and pid not in answers
        for connection in waiting:
            connection.close()


class Exits:
    """A handler that ends the process when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)

    def __call__(self, connection: socket.socket) -> None: ...


def test_processes_that_never_start_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    with Server(("127.0.0.1", 0), Exits(), workers="process", max_workers=1) as server:
        with pytest.raises(OSError, match="cannot be served: its last process has ended with 3"):
            server.serve_forever()
    assert caplog.text.count("before it was ready") == 2


def test_the_end_waits_for_handlers_and_not_for_stopped_processes() -> None:
    def slow(connection: socket.socket) -> None:
        connection.sendall(connection.recv(1))
        time.sleep(0.3)
        connection.sendall(b"done")

    with serving(slow, workers="process", max_workers=1, grace=WATCHDOG) as server:
        connection = client(server)
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        server.shutdown()
        assert read_all(connection) == b"done"
        connection.close()
    with serving(who, workers="process", max_workers=1) as server:
        with client(server) as connection:
            connection.sendall(b"x")
            os.kill(int(connection.recv(100)), signal.SIGSTOP)
            server.shutdown(grace=0)


def test_without_their_parent_processes_end() -> None:
    program = """
import os, socket, threading
from manyhands.server import Server
def who(connection):
    connection.sendall(b"%d" % os.getpid())
server = Server(("127.0.0.1", 0), who, workers="process", max_workers=1)
threading.Thread(target=server.serve_forever).start()
with socket.create_connection(server.server_address) as connection:
    print(connection.recv(100).decode(), flush=True)
os._exit(0)
"""
    result = run_program(program)
    pid = int(result.stdout)

    def has_ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    eventually(has_ended, "the process ends")


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    return made


def test_tls_in_processes() -> None:
    with serving(who, workers="process", max_workers=1, ssl=context) as server:
        trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
        with client(server) as plain:
            with trusting.wrap_socket(plain, server_hostname="localhost") as connection:
                connection.sendall(b"x")
                assert int(connection.recv(100)) != os.getpid()


def test_failures_in_processes_are_seen(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(connection: socket.socket) -> None:
        raise ZeroDivisionError("in a process")

    with serving(broken, workers="process", max_workers=1) as server:
        assert ask(server, b"") == b""
        eventually(lambda: server.statistics()["failed"] == 1, "it is counted")
    assert "in a process" in capfd.readouterr().err


def test_signals_that_end_a_process_drain_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), serving(who, workers="process", max_workers=1) as server:
        with client(server) as connection:
            connection.sendall(b"x")
            pid = int(connection.recv(100))
        os.kill(pid, signal.SIGTERM)

        def is_another() -> bool:
            with client(server) as connection:
                connection.sendall(b"x")
                return int(connection.recv(100)) != pid

        eventually(is_another, "another has taken its place")
    assert "killed" not in caplog.text
