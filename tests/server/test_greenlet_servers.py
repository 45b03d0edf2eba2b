"""Servers whose workers are greenlets: handlers in blocking style, many in one thread."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually
from manyhands.server import Server, StreamRequestHandler
from serving import WATCHDOG, ask, client, read_all, serving

pytest.importorskip("greenlet", reason="there is no greenlet for this Python")


def upper(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data.upper())


class Lines(StreamRequestHandler):
    """Answers each line, as handlers of `socketserver` do."""

    def handle(self) -> None:
        self.wfile.write(f"{self.client_address[1]}\n".encode())
        for line in self.rfile:
            self.wfile.write(line.upper())


def greenlets(handler: Any, **options: Any) -> Any:
    return serving(handler, workers="greenlet", **options)


def test_many_clients_are_served_in_one_thread() -> None:
    threads: set[int] = set()

    def handle(connection: socket.socket) -> None:
        threads.add(threading.get_ident())
        upper(connection)

    with greenlets(handle) as server:
        clients = [client(server) for _ in range(100)]
        for connection in clients:
            connection.sendall(b"hello")
        for connection in clients:
            assert connection.recv(100) == b"HELLO"
        eventually(lambda: server.statistics()["active"] == 100, "all are there")
        for connection in clients:
            connection.close()
        assert len(threads) == 1


def test_handler_classes_are_those_of_socketserver() -> None:
    with greenlets(Lines) as server, client(server) as connection:
        port = connection.getsockname()[1]
        connection.sendall(b"one\ntwo\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == f"{port}\nONE\nTWO\n".encode()


def test_our_locks_and_sleeps_wait_by_switching() -> None:
    lock, inside = mh.Lock(), []

    def one_after_the_other(connection: socket.socket) -> None:
        name = connection.recv(1)
        with lock:
            inside.append(name)
            mh.sleep(0.01)
            assert inside.pop() == name
        connection.sendall(name)

    with greenlets(one_after_the_other) as server:
        clients = [client(server) for _ in range(10)]
        for number, connection in enumerate(clients):
            connection.sendall(b"%d" % number)
        for number, connection in enumerate(clients):
            assert connection.recv(1) == b"%d" % number
            connection.close()


def test_a_client_that_says_nothing_runs_out_of_time() -> None:
    outcomes: list[Any] = []

    def patient(connection: socket.socket) -> None:
        connection.settimeout(0.1)
        try:
            connection.recv(1)
        except TimeoutError as error:
            outcomes.append(error)

    with greenlets(patient) as server, client(server) as connection:
        assert read_all(connection) == b""
        assert len(outcomes) == 1
        assert ask(server, b"x") == b""


def test_files_of_a_connection() -> None:
    def handle(connection: socket.socket) -> None:
        with connection.makefile("r", encoding="utf-8") as lines:
            for line in lines:
                with connection.makefile("w", encoding="utf-8") as answers:
                    answers.write(line.upper())

    with greenlets(handle) as server:
        assert ask(server, "grün\nund\n".encode()) == "GRÜN\nUND\n".encode()


def test_a_slow_reader_holds_up_its_own_handler() -> None:
    def handle(connection: socket.socket) -> None:
        for _ in range(100):
            connection.sendall(b"x" * 100_000)

    with greenlets(handle) as server, client(server) as slow:
        assert ask(server, b"")[:1] == b"x"
        assert len(read_all(slow)) == 10_000_000


def test_what_cannot_be_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def handle(connection: socket.socket) -> None:
        with pytest.raises(ValueError, match="know no flags"):
            connection.recv(1, socket.MSG_PEEK)
        with pytest.raises(ValueError, match="cannot be 0"):
            connection.settimeout(0)
        connection.close()
        connection.sendall(b"x")

    with greenlets(handle) as server:
        assert ask(server, b"") == b""
        eventually(lambda: server.statistics()["failed"] == 1, "it is closed")
    assert "Bad file descriptor" in caplog.text

    async def handle_streams(_reader: Any, _writer: Any) -> None: ...

    with pytest.raises(TypeError, match="workers='coroutine'"):
        Server("127.0.0.1:0", handle_streams, workers="greenlet")


def test_what_is_served_is_cancelled_at_the_end() -> None:
    outcomes: list[str] = []

    def slow(connection: socket.socket) -> None:
        connection.recv(1)
        try:
            mh.sleep(WATCHDOG)
        except BaseException as error:
            outcomes.append(type(error).__name__)
            raise

    with greenlets(slow, grace=0.1) as server, client(server) as connection:
        connection.sendall(b"x")
        eventually(lambda: server.statistics()["active"] == 1, "it is served")
    assert outcomes == ["CancelledError"]


def test_messages_are_handled_by_greenlets() -> None:
    def later(message: bytes) -> bytes:
        mh.sleep(0.001)
        return message.upper()

    with greenlets(later, framing="lines") as server:
        assert ask(server, b"one\ntwo\n") == b"ONE\nTWO\n"


def test_nothing_can_be_sent_after_the_end() -> None:
    def handle(connection: Any) -> None:
        connection.sendall(b"all")
        connection.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            connection.sendall(b"more")
        assert connection.recv(10) == b"heard"

    with greenlets(handle) as server, client(server) as connection:
        assert read_all(connection) == b"all"
        connection.sendall(b"heard")
        eventually(lambda: server.statistics()["served"] == 1, "it is done")
    assert server.statistics()["failed"] == 0
