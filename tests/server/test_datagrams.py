"""Servers of datagrams: handlers, addresses, limits, and what clients and handlers do wrong."""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import DatagramRequestHandler, Server, StreamRequestHandler
from serving import WATCHDOG, serving

ANY = "udp:127.0.0.1:0"


def upper(data: bytes, address: Any) -> bytes:
    return data.upper()


class Upper(DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


class Addresses(socketserver.BaseRequestHandler):
    """Answers with the addresses of the client and of the server."""

    def handle(self) -> None:
        _data, sender = self.request
        answer = repr((self.client_address, self.server.server_address))
        sender.sendto(answer.encode(), self.client_address)


@contextmanager
def client(server: Server, name: str | None = None) -> Iterator[socket.socket]:
    """Give a socket that sends to a server, and receives from it only."""
    with socket.socket(server.socket.family, socket.SOCK_DGRAM) as made:
        made.settimeout(WATCHDOG)
        if name is not None:
            made.bind(name)
        made.connect(server.server_address)
        yield made


def ask(server: Server, data: bytes) -> bytes:
    with client(server) as connection:
        connection.send(data)
        return connection.recv(65536)


@pytest.mark.parametrize("handler", [upper, Upper], ids=["function", "class"])
def test_a_handler_answers_many_clients(handler: Any) -> None:
    with serving(handler, ANY, max_workers=4) as server:
        for number in range(100):
            assert ask(server, b"dino %d" % number) == b"DINO %d" % number
        eventually(lambda: server.statistics()["served"] == 100, "all are counted")
    counts = server.statistics()
    assert counts["accepted"] == counts["served"] == 100
    assert counts["refused"] == counts["failed"] == counts["overflowed"] == 0


def test_datagrams_stay_apart_and_may_be_empty() -> None:
    with serving(upper, ANY, max_workers=1) as server, client(server) as connection:
        for data in (b"one", b"", b"three"):
            connection.send(data)
        assert [connection.recv(100) for _ in range(3)] == [b"ONE", b"", b"THREE"]


def test_a_function_that_returns_nothing_sends_nothing() -> None:
    seen: list[tuple[bytes, Any]] = []

    def note(data: bytes, address: Any) -> bytes | None:
        seen.append((data, address))
        return None if data == b"psst" else b"ok"

    with serving(note, ANY) as server, client(server) as connection:
        connection.send(b"psst")
        connection.send(b"hello")
        assert connection.recv(100) == b"ok"
        assert sorted(seen) == [
            (b"hello", connection.getsockname()),
            (b"psst", connection.getsockname()),
        ]


@pytest.mark.parametrize("form", ["text", "IPv6", "fd", "socket"])
def test_an_address_has_several_forms(form: str) -> None:
    if form == "IPv6" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        address: Any = {
            "text": ANY,
            "IPv6": "udp:[::1]:0",
            "fd": f"fd:{bound.fileno()}",
            "socket": bound,
        }[form]
        with serving(Addresses, address) as server, client(server) as connection:
            connection.send(b"?")
            expected = (connection.getsockname(), server.server_address)
            assert connection.recv(1000) == repr(expected).encode()
        assert (server.fileno() < 0) == (form != "socket")


def test_unix_sockets_are_removed_and_taken_over_only_from_the_dead(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(upper, f"udp:unix:{path}") as server:
        with client(server, str(tmp_path / "client")) as connection:
            connection.send(b"a")
            assert connection.recv(10) == b"A"
        with pytest.raises(OSError, match="has it; end that"):
            Server(f"udp:unix:{path}", upper)
    assert not path.exists()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(path))
    with (
        serving(upper, f"udp:unix:{path}") as server,
        client(server, str(tmp_path / "other")) as connection,
    ):
        connection.send(b"b")
        assert connection.recv(10) == b"B"


def test_a_port_in_use_is_said_with_its_owner() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf":{port}: this process \(.*\) has it"):
            Server(f"udp:127.0.0.1:{port}", upper)


@pytest.mark.parametrize("address", ["udp:", "udp:nowhere", "udp:127.0.0.1:70000", "udp:127.0.0.1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        Server(address, upper)


def test_a_socket_without_an_address_is_refused() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute,
        pytest.raises(ValueError, match="bind"),
    ):
        Server(mute, upper)


async def asynchronous(data: bytes, address: Any) -> None: ...


class Lines(StreamRequestHandler):
    pass


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (asynchronous, "asynchronous is an async function"),
        (lambda data: None, "cannot be called with two arguments"),
        ("handler", "cannot be called"),
        (Lines, "Lines is for connections"),
    ],
)
def test_a_handler_that_does_not_fit_is_refused(handler: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        Server(ANY, handler)


def test_a_handler_of_datagrams_needs_an_address_for_them() -> None:
    with pytest.raises(TypeError, match="serve it at an address such as udp:"):
        Server(("127.0.0.1", 0), Upper)


@pytest.mark.parametrize(
    "options",
    [
        {"proxy_protocol": "*"},
        {"ssl": lambda: None},
        {"first_byte_timeout": 1.0},
        {"connection_timeout": 1.0},
        {"overflow": print},
        {"framing": "lines"},
    ],
)
def test_options_of_connections_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.* is for connections"):
        Server(ANY, upper, **options)


def test_what_is_too_long_is_dropped_whole() -> None:
    with serving(upper, ANY, max_packet_size=10) as server, client(server) as connection:
        for data in (b"x" * 11, b"x" * 60_000, b"y" * 10):
            connection.send(data)
        assert connection.recv(100) == b"Y" * 10
        counts = server.statistics()
        assert (counts["accepted"], counts["refused"]) == (3, 2)


def test_beyond_the_queue_datagrams_are_dropped_and_counted() -> None:
    go_on = threading.Event()

    def slow(data: bytes, address: Any) -> bytes:
        assert go_on.wait(WATCHDOG)
        return data

    options: dict[str, Any] = {"max_workers": 1, "max_queue": 2, "overflow": "reject"}
    with serving(slow, ANY, **options) as server, client(server) as connection:
        connection.send(b"0")
        eventually(lambda: server.statistics()["active"] == 1, "it is being handled")
        for number in range(1, 6):
            connection.send(b"%d" % number)
        eventually(lambda: server.statistics()["refused"] == 3, "the others are dropped")
        go_on.set()
        assert [connection.recv(10) for _ in range(3)] == [b"0", b"1", b"2"]


def test_without_room_datagrams_wait_with_the_kernel_which_counts_what_it_drops() -> None:
    go_on = threading.Event()

    def slow(data: bytes, address: Any) -> None:
        assert go_on.wait(WATCHDOG)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bound.bind(("127.0.0.1", 0))
        with (
            serving(slow, bound, max_workers=1, max_queue=0) as server,
            client(server) as connection,
        ):
            connection.send(b"first")
            eventually(lambda: server.statistics()["active"] == 1, "it is being handled")
            for _ in range(100):
                connection.send(b"x" * 1000)
            numbers = server.statistics()
            assert numbers["overflowed"] > 50 and numbers["refused"] == 0
            go_on.set()
            expected = 101 - numbers["overflowed"]
            eventually(lambda: server.statistics()["served"] == expected, "the rest is handled")


def test_a_handler_that_raises_is_named_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    def picky(data: bytes, address: Any) -> bytes:
        if data == b"raise":
            raise ZeroDivisionError("no dinosaurs")
        return data

    with serving(picky, ANY) as server, client(server) as connection:
        connection.send(b"raise")
        connection.send(b"fine")
        assert connection.recv(10) == b"fine", "others notice nothing"
        eventually(lambda: server.statistics()["failed"] == 1, "the failure is counted")
        me = connection.getsockname()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info is not None
    assert "picky" in record.message and str(me) in record.message
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize(
    ("reply", "error"), [("text", TypeError), (7, TypeError), (bytes(70_000), OSError)]
)
def test_a_reply_that_cannot_be_one_is_the_handlers_mistake(
    reply: Any, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with serving(lambda data, address: reply, ANY) as server, client(server) as connection:
        connection.send(b"?")
        eventually(lambda: server.statistics()["failed"] == 1, "it is counted")
    (record,) = caplog.records
    assert record.exc_info is not None and record.exc_info[0] is error


@pytest.mark.parametrize("handler", [upper, Upper], ids=["function", "class"])
@pytest.mark.parametrize("how", ["has no address", "has gone", "does not read"])
def test_clients_that_cannot_be_reached_are_no_failures(
    handler: Any, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = None if how == "has no address" else str(tmp_path / "client")
    count = 2000 if how == "does not read" else 1
    with serving(handler, f"udp:unix:{tmp_path / 'server'}", max_workers=2) as server:
        with client(server, name) as connection:
            if how == "has gone":
                assert name is not None
                Path(name).unlink()
            for _ in range(count):
                connection.send(b"hello")
            eventually(lambda: server.statistics()["disconnected"] >= 1, "it is counted")
            eventually(lambda: server.statistics()["served"] == count, "nobody is held up")
        with client(server, str(tmp_path / "other")) as connection:
            connection.send(b"hello")
            assert connection.recv(10) == b"HELLO"
    assert server.statistics()["failed"] == 0
    assert not caplog.records


def test_the_end_waits_for_handlers_within_the_grace() -> None:
    begun = threading.Event()

    def slow(data: bytes, address: Any) -> bytes:
        begun.set()
        time.sleep(0.2)
        return data

    with serving(slow, ANY) as server, client(server) as connection:
        connection.send(b"last")
        assert begun.wait(WATCHDOG)
        server.shutdown()
        assert server.statistics()["served"] == 1
        assert connection.recv(10) == b"last"


def test_the_end_does_not_wait_for_a_handler_that_does_not_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def stuck(data: bytes, address: Any) -> None:
        threads.append(threading.current_thread())
        begun.set()
        assert go_on.wait(WATCHDOG)

    try:
        with serving(stuck, ANY, max_workers=1) as server, client(server) as connection:
            connection.send(b"1")
            assert begun.wait(WATCHDOG)
            connection.send(b"2")
            eventually(lambda: server.statistics()["queued"] == 1, "one waits")
            server.shutdown(grace=0)
            assert server.statistics()["dropped"] == 1
    finally:
        go_on.set()
    threads[0].join(WATCHDOG)
    assert "1 handlers still running" in caplog.text and "go_on.wait" in caplog.text


def test_processes_share_one_socket() -> None:
    def who(data: bytes, address: Any) -> bytes:
        return b"%d" % os.getpid()

    with serving(who, ANY, workers="process", max_workers=2) as server:
        pids: set[bytes] = set()

        def another() -> bool:
            with client(server) as connection:
                for _ in range(20):
                    connection.send(b"?")
                pids.update(connection.recv(100) for _ in range(20))
            return len(pids) == 2

        eventually(another, "both processes answer")
        assert b"%d" % os.getpid() not in pids
        assert server.statistics()["overflowed"] == 0
    assert server.statistics()["served"] % 20 == 0


def test_a_handler_may_fork() -> None:
    def forking(data: bytes, address: Any) -> bytes | None:
        child = os.fork()
        if child == 0:
            return b"from the child"
        os.waitpid(child, 0)
        return None

    with serving(forking, ANY, max_workers=1) as server:
        assert ask(server, b"?") == b"from the child"
        assert ask(server, b"?") == b"from the child"


def test_it_is_served_again_after_a_shutdown() -> None:
    with Server(ANY, upper) as server:
        for _ in range(2):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            assert ask(server, b"a") == b"A"
            server.shutdown()
            thread.join(WATCHDOG)
        assert server.statistics()["served"] == 2
