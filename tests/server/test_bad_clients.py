"""What clients and handlers do wrong, and what others notice of it: nothing."""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import ssl
import struct
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, ask, client, read_all, run_program, serving

CERTIFICATE = Path(__file__).parent.parent / "support" / "localhost.pem"
RESET = struct.pack("ii", 1, 0)


def upper(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data.upper())


def test_a_handler_that_raises_is_named_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    def broken(connection: socket.socket) -> None:
        raise ZeroDivisionError("no dinosaurs")

    with serving(broken) as server, client(server) as connection:
        peer = connection.getsockname()
        assert read_all(connection) == b""
        eventually(lambda: server.statistics()["failed"] == 1, "the failure is counted")
    record = caplog.records[-1]
    assert record.name == "manyhands.server" and record.levelno == logging.ERROR
    assert "broken" in record.message and str(peer) in record.message
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError


def test_a_client_learns_the_end_whoever_keeps_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(connection: socket.socket) -> None:
        file = connection.makefile("rb")
        raise ValueError(file.readline())

    with serving(broken) as server, client(server) as connection:
        connection.sendall(b"line\n")
        assert read_all(connection) == b""
        error = caplog.records[-1].exc_info
        assert error is not None and "broken" in traceback.format_tb(error[2])[-1]
        traceback.clear_frames(error[2])  # closes the file, and so the connection


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_handler_that_wants_to_end_the_thread_ends_its_own(error: type[BaseException]) -> None:
    def leaving(connection: socket.socket) -> None:
        if connection.recv(1) == b"x":
            raise error
        connection.sendall(b"ok")

    seen: list[Any] = []
    before, threading.excepthook = threading.excepthook, seen.append
    try:
        with serving(leaving, max_workers=1) as server:
            assert ask(server, b"x") == b""
            assert ask(server, b"y") == b"ok", "another thread has come for it"
    finally:
        threading.excepthook = before
    assert [args.exc_type for args in seen] == [error]


def test_a_handler_may_close_or_give_away_its_socket(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[socket.socket] = []

    def handler(connection: socket.socket) -> object:
        if connection.recv(1) == b"c":
            connection.close()
            return object()
        kept.append(socket.socket(fileno=connection.detach()))
        return None

    with serving(handler, max_workers=1) as server:
        assert ask(server, b"c") == b""
        with client(server) as connection:
            connection.sendall(b"d")
            eventually(lambda: kept, "it has been given away")
            with kept[0] as mine:
                mine.sendall(b"later")
            assert read_all(connection) == b"later"
    assert not caplog.records


def test_clients_that_go_away_are_no_failures(caplog: pytest.LogCaptureFixture) -> None:
    with serving(upper, max_workers=2) as server:
        for _ in range(20):
            connection = client(server)
            connection.sendall(b"half a mess")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            connection.close()
        assert ask(server, b"still here") == b"STILL HERE"
        eventually(lambda: server.statistics()["active"] == 0, "all have ended")
        counts = server.statistics()
    assert counts["failed"] == 0 and counts["served"] == 21
    assert not caplog.records


def test_another_broken_connection_of_the_handler_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handler(connection: socket.socket) -> None:
        raise ConnectionResetError("the database")

    with serving(handler) as server:
        assert ask(server, b"") == b""
        eventually(lambda: server.statistics()["failed"] == 1, "the failure is counted")
    assert "the database" in caplog.text


def test_a_client_that_says_nothing_is_sent_away() -> None:
    with serving(upper, max_workers=1, first_byte_timeout=0.05) as server:
        with client(server) as silent:
            assert read_all(silent) == b""
        assert ask(server, b"a") == b"A"
        assert server.statistics()["timed_out"] == 1


def test_a_client_that_takes_forever_is_sent_away() -> None:
    with serving(upper, max_workers=1, connection_timeout=0.2) as server:
        with client(server) as slow:
            slow.settimeout(0.02)
            try:
                while True:
                    slow.sendall(b"x")
                    try:
                        if slow.recv(1) == b"":
                            break
                    except TimeoutError:
                        pass
            except ConnectionError:
                pass
        assert ask(server, b"a") == b"A"
        assert server.statistics()["timed_out"] == 1


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    return made


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def test_tls() -> None:
    with serving(upper, ssl=context()) as server, client(server) as plain:
        with trusting().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"secret")
            assert connection.recv(100) == b"SECRET"
            connection.settimeout(WATCHDOG)


def test_tls_tells_a_client_that_it_has_got_all() -> None:
    def answers(connection: socket.socket) -> None:
        if connection.recv(1) == b"f":
            raise ZeroDivisionError
        connection.sendall(b"all")

    def ask_strictly(server: Server, request: bytes) -> bytes:
        with (
            client(server) as plain,
            trusting().wrap_socket(
                plain, server_hostname="localhost", suppress_ragged_eofs=False
            ) as connection,
        ):
            connection.sendall(request)
            return read_all(connection)

    with serving(answers, ssl=context()) as server:
        assert ask_strictly(server, b"a") == b"all"
        with pytest.raises(ssl.SSLEOFError):
            ask_strictly(server, b"f")


@pytest.mark.parametrize("how", ["close", "unwrap", "reset"])
def test_clients_of_tls_that_go_away_are_no_failures(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def flood(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"x" * 10_000)

    with serving(flood, ssl=context()) as server:
        with (
            client(server) as plain,
            trusting().wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.recv(1)
            if how == "unwrap":
                connection.setblocking(False)
                with contextlib.suppress(OSError):
                    connection.unwrap()
            elif how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        eventually(lambda: server.statistics()["disconnected"] == 1, "it is counted")
        assert server.statistics()["failed"] == 0
    assert not caplog.records


def test_a_handshake_that_is_not_finished_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with serving(upper, ssl=context(), max_workers=2, handshake_timeout=0.3) as server:
        stalled, wrong = client(server), client(server)
        wrong.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with (
            client(server) as plain,
            trusting().wrap_socket(plain, server_hostname="localhost") as good,
        ):
            good.sendall(b"a")
            assert good.recv(1) == b"A"
        assert read_all(stalled) == b""
        stalled.close()
        wrong.close()
        eventually(lambda: server.statistics()["disconnected"] == 2, "both are counted")
    assert not caplog.records


def test_a_stuck_handler_is_reported_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def handler(connection: socket.socket) -> None:
        assert go.wait(WATCHDOG)
        connection.sendall(b"after all")

    with serving(handler, stuck_after=0.05) as server, client(server) as connection:
        eventually(lambda: server.statistics()["stuck"] == 1, "it is reported")
        go.set()
        assert read_all(connection) == b"after all"
        assert server.statistics()["stuck"] == 1
    assert "go.wait(WATCHDOG)" in caplog.text


def test_a_handler_that_waits_for_its_client_is_not_stuck() -> None:
    with serving(upper, stuck_after=0.01) as server, client(server) as connection:
        connection.sendall(b"a")
        assert connection.recv(1) == b"A"
        with client(server) as other:
            other.sendall(b"b")
            assert other.recv(1) == b"B"
        assert server.statistics()["stuck"] == 0


def test_without_descriptors_clients_wait() -> None:
    program = """
import logging, resource, socket, threading
from manyhands._server.server import Server
logging.basicConfig()
def handler(connection):
    connection.sendall(connection.recv(10))
with Server(("127.0.0.1", 0), handler, max_workers=4, max_connections=1000) as server:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    threading.Thread(target=server.serve_forever).start()
    with socket.create_connection(server.server_address) as first:
        first.sendall(b"x"); assert first.recv(1) == b"x"
    clients = [socket.create_connection(server.server_address) for _ in range(200)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 3, hard))
    more = []
    try:
        while True:
            more.append(socket.create_connection(server.server_address))
    except OSError as error:
        assert error.errno == 24, error
    for connection in clients[:100]:
        connection.close()
    answered = 0
    for connection in clients[100:] + more:
        connection.settimeout(20)
        connection.sendall(b"y")
        answered += connection.recv(1) == b"y"
        connection.close()
    print(answered == 100 + len(more))
    server.shutdown()
"""
    result = run_program(program)
    assert result.stdout.strip() == "True", result.stderr


def test_nothing_remains_of_many_short_connections() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def handler(connection: socket.socket) -> None:
        connection.sendall(connection.recv(10))

    from manyhands import _native

    with serving(handler, max_workers=8) as server:
        host, port = server.server_address

        def load(seconds: float) -> int:
            report = _native.run_load(
                f"{host}:{port}",
                connections=16,
                request=b"x",
                answer=1,
                reconnect=True,
                seconds=seconds,
            )
            assert report["failures"] == {}
            return len(report["waits"])

        load(0.2)
        eventually(lambda: server.statistics()["active"] == 0, "all have ended")
        before = descriptors(), peak()
        assert load(1.0) > 100
        eventually(lambda: server.statistics()["active"] == 0, "all have ended")
        # A connection does not count any more a moment before its descriptor is closed.
        eventually(lambda: descriptors() <= before[0], "their descriptors are closed")
        assert peak() - before[1] < 4 << 10, "kibibytes"
