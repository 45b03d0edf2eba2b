"""Servers: handlers, addresses, limits."""

from __future__ import annotations

import asyncio
import functools
import socket
import socketserver
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server, StreamRequestHandler
from serving import WATCHDOG, ask, client, read_all, serving


def upper(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data.upper())


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Addresses(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(repr((self.client_address, self.server.server_address)).encode())


@pytest.mark.parametrize("handler", [upper, Upper], ids=["function", "class"])
def test_a_handler_answers_many_clients(handler: Any) -> None:
    with serving(handler, max_workers=4) as server:
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda n: ask(server, b"dino %d\n" % n), range(100)))
        assert answers == [b"DINO %d\n" % n for n in range(100)]
        counts = server.statistics()
        assert counts["accepted"] == 100
        assert 1 <= counts["busiest"] <= 4 and counts["workers"] <= 4
    assert server.statistics()["served"] == 100


def test_addresses_are_those_of_socketserver() -> None:
    with serving(Addresses) as server, client(server) as connection:
        mine = connection.getsockname()
        assert read_all(connection).decode() == repr((mine, server.server_address))


@pytest.mark.parametrize("form", ["tuple", "text", "fd", "socket"])
def test_an_address_has_several_forms(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address: Any = {
            "tuple": ("127.0.0.1", 0),
            "text": "127.0.0.1:0",
            "fd": f"fd:{listening.fileno()}",
            "socket": listening,
        }[form]
        with serving(upper, address) as server:
            assert ask(server, b"a") == b"A"
        assert (server.fileno() < 0) == (form != "socket")


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with serving(Addresses, "[::1]:0") as server, client(server) as connection:
        mine = connection.getsockname()
        assert read_all(connection).decode() == repr((mine, server.server_address))


def test_a_unix_socket_is_removed_and_taken_over_only_from_the_dead(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(upper, f"unix:{path}") as server:
        assert ask(server, b"a") == b"A"
        with pytest.raises(OSError, match="has it; end that"):
            Server(path, upper)
        assert ask(server, b"b") == b"B"
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(upper, path) as server:
        assert ask(server, b"c") == b"C"


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match="not a socket"):
        Server(path, upper)
    assert path.read_text() == "data"


def test_a_port_in_use_is_said_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=rf":{port}: this process \(.*\) has it"):
            Server(("127.0.0.1", port), upper)


@pytest.mark.parametrize("address", [":0", ("", 0)])
def test_no_host_means_all_addresses_of_both_families(address: Any) -> None:
    with serving(upper, address) as server:
        port = server.server_address[1]
        assert server.socket.family == (
            socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        )
        hosts = ["127.0.0.1", "::1"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        for host in hosts:
            with socket.create_connection((host, port), WATCHDOG) as connection:
                connection.sendall(b"hello")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == b"HELLO"


@pytest.mark.parametrize(
    "address", ["nowhere", 80, ("127.0.0.1", 70000), ("127.0.0.1", "x"), "fd:x", "fd:999"]
)
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(ValueError, match=r"no address|no inherited socket"):
        Server(address, upper)


def test_a_socket_that_does_not_listen_is_refused() -> None:
    with socket.socket() as mute, pytest.raises(ValueError, match="listen"):
        Server(mute, upper)


async def asynchronous(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (asynchronous, "asynchronous is an async function"),
        (lambda: None, "cannot be called with one argument"),
        (lambda a, b: None, "cannot be called with one argument"),
        ("handler", "cannot be called"),
    ],
)
def test_a_handler_that_does_not_fit_is_refused(handler: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        Server(("127.0.0.1", 0), handler)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": "proces"}, "workers='proces'"),
        ({"workers": "process", "overflow": "reject"}, "are for threads"),
        ({"max_workers": 0}, "max_workers=0 must be at least 1"),
        ({"max_workers": 2.5}, "max_workers=2.5 must be a whole number"),
        ({"max_queue": -1}, "max_queue=-1"),
        ({"overflow": "drop"}, "overflow='drop'"),
        ({"grace": -1}, "grace=-1"),
        ({"connection_timeout": float("nan")}, "connection_timeout=nan"),
        ({"handshake_timeout": "3"}, "handshake_timeout='3' must be a number"),
    ],
)
def test_wrong_options_are_named(options: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        Server(("127.0.0.1", 0), upper, **options)


class Gate:
    """A handler that says when it is there, and goes on when it may."""

    def __init__(self) -> None:
        self.here = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        self.here.release()
        assert self.go.wait(WATCHDOG)
        connection.sendall(b"served")

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.here.acquire(timeout=WATCHDOG)


def test_handlers_that_wait_are_served_side_by_side() -> None:
    gate = Gate()
    with serving(gate, max_workers=10) as server:
        connections = [client(server) for _ in range(10)]
        gate.wait_for(10)
        gate.go.set()
        assert [read_all(connection) for connection in connections] == [b"served"] * 10
        for connection in connections:
            connection.close()


def test_beyond_the_queue_clients_wait_in_that_of_the_listener() -> None:
    gate = Gate()
    with serving(gate, max_workers=2, max_queue=3) as server:
        connections = [client(server) for _ in range(12)]
        gate.wait_for(2)
        eventually(lambda: server.statistics()["queued"] == 3, "three are queued")
        assert server.statistics()["accepted"] == 5
        gate.go.set()
        assert [read_all(connection) for connection in connections] == [b"served"] * 12
        assert server.statistics()["busiest"] == 2
        for connection in connections:
            connection.close()


def test_open_connections_are_bounded() -> None:
    gate = Gate()
    with serving(gate, max_workers=8, max_connections=3) as server:
        connections = [client(server) for _ in range(6)]
        gate.wait_for(3)
        assert server.statistics()["accepted"] == 3
        gate.go.set()
        assert [read_all(connection) for connection in connections] == [b"served"] * 6
        for connection in connections:
            connection.close()


def test_a_full_queue_rejects() -> None:
    gate = Gate()
    with serving(gate, max_workers=1, max_queue=1, overflow="reject") as server:
        first, second = client(server), client(server)
        gate.wait_for(1)
        eventually(lambda: server.statistics()["queued"] == 1, "one is queued")
        with client(server) as third:
            assert third.recv(1) == b""
        assert server.statistics()["refused"] == 1
        gate.go.set()
        assert [read_all(first), read_all(second)] == [b"served"] * 2
        first.close()
        second.close()


def test_a_function_tells_those_who_are_refused() -> None:
    gate = Gate()
    told: list[Any] = []

    def busy(connection: socket.socket, address: Any) -> None:
        told.append(address)
        connection.sendall(b"busy")

    with serving(gate, max_workers=1, max_queue=0, overflow=busy) as server:
        with client(server) as first:
            gate.wait_for(1)
            with client(server) as second:
                assert read_all(second) == b"busy"
                assert told == [second.getsockname()]
            gate.go.set()
            assert read_all(first) == b"served"


def test_partial_handlers_and_classes_are_called_as_they_can_be() -> None:
    class Said(StreamRequestHandler):
        def __init__(self, *arguments: Any, word: bytes) -> None:
            self.word = word
            super().__init__(*arguments)

        def handle(self) -> None:
            self.wfile.write(self.word)

    class OfASocket:
        def __init__(self, connection: socket.socket) -> None:
            connection.sendall(b"one")

    def of_three(connection: socket.socket, address: Any, server: Any) -> None:
        connection.sendall(b"%d %d" % (address[1] > 0, isinstance(server, Server)))

    for handler, answer in (
        (functools.partial(Said, word=b"partial"), b"partial"),
        (OfASocket, b"one"),
        (of_three, b"1 1"),
    ):
        with serving(handler) as server:
            assert ask(server, b"") == answer


def test_a_server_serves_again() -> None:
    with Server(("127.0.0.1", 0), upper) as server:
        for _ in range(2):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            assert ask(server, b"a") == b"A"
            server.shutdown()
            thread.join(WATCHDOG)
            assert not thread.is_alive()
        assert server.statistics()["served"] == 2
    with pytest.raises(RuntimeError, match="make another"):
        server.serve_forever()


def test_it_is_served_once_at_a_time() -> None:
    with serving(upper) as server:
        ask(server, b"a")
        with pytest.raises(RuntimeError, match="being served already"):
            server.serve_forever()
        assert ask(server, b"b") == b"B"
