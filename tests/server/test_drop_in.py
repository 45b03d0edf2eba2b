"""`manyhands.server` in the place of `socketserver`: its names, its hooks, who closes what."""

from __future__ import annotations

import http.client
import http.server
import io
import re
import socket
import socketserver as standard
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import manyhands.server as socketserver
from eventually import eventually
from served import LOCALHOST, NEVER_S, Echo, answer, served
from serving import client as connected

STREAMS = (
    "TCPServer",
    "ThreadingTCPServer",
    "ForkingTCPServer",
    "UnixStreamServer",
    "ThreadingUnixStreamServer",
    "ForkingUnixStreamServer",
)
DATAGRAMS = tuple(name.replace("TCP", "UDP").replace("Stream", "Datagram") for name in STREAMS)


def address_for(name: str, folder: Path) -> Any:
    return str(folder / "socket") if "Unix" in name else LOCALHOST


def test_every_name_of_the_standard_library_is_there() -> None:
    assert {*standard.__all__} <= {*socketserver.__all__}
    for name in vars(standard):
        assert hasattr(socketserver, name)
    for name in socketserver.__all__:
        assert getattr(socketserver, name).__module__ in ("manyhands.server", "socketserver")


@pytest.mark.parametrize("name", STREAMS + DATAGRAMS)
def test_servers_are_servers_of_the_standard_library(name: str) -> None:
    ours = getattr(socketserver, name)
    for base in ("ThreadingMixIn", "ForkingMixIn", "TCPServer", "UDPServer", "UnixStreamServer"):
        theirs = getattr(standard, name, None)
        if theirs is not None and issubclass(theirs, getattr(standard, base)):
            assert issubclass(ours, getattr(standard, base))
            assert issubclass(ours, getattr(socketserver, base))


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, tmp_path: Path) -> None:
    with served(getattr(socketserver, name)(address_for(name, tmp_path), Echo)) as server:
        for line in (b"one\n", b"two\n"):
            assert answer(server, line) == line


class Shout(socketserver.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@pytest.mark.parametrize("name", DATAGRAMS)
def test_datagrams(name: str, tmp_path: Path) -> None:
    with served(getattr(socketserver, name)(address_for(name, tmp_path), Shout)) as server:
        with socket.socket(server.address_family, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.bind(str(tmp_path / "client") if "Unix" in name else LOCALHOST)
            for word in (b"one", b"two"):
                client.sendto(word, server.server_address)
                assert client.recv(100) == word.upper()


def test_the_listener_has_as_long_a_queue_as_the_system_allows() -> None:
    assert socketserver.TCPServer.request_queue_size == socket.SOMAXCONN


class Hooked(socketserver.TCPServer):
    """Says which of its methods are called, in which order."""

    def __init__(self, refuses: bool = False) -> None:
        self.calls: list[str] = []
        self.refuses = refuses
        super().__init__(LOCALHOST, Echo)

    def __getattribute__(self, name: str) -> Any:
        if name in HOOKS:
            object.__getattribute__(self, "calls").append(name)
        return super().__getattribute__(name)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.refuses


HOOKS = {
    "server_bind",
    "server_activate",
    "get_request",
    "verify_request",
    "process_request",
    "finish_request",
    "shutdown_request",
    "close_request",
    "handle_timeout",
    "handle_error",
    "server_close",
}
ACCEPTED = ["get_request", "verify_request"]
CLOSED = ["shutdown_request", "close_request"]


def test_hooks_are_called_in_the_order_of_the_standard_library() -> None:
    with Hooked() as server:
        assert server.calls == ["server_bind", "server_activate"]
        server.calls.clear()
        connected(server).close()
        server.handle_request()
        assert server.calls == [*ACCEPTED, "process_request", "finish_request", *CLOSED]
        server.calls.clear()
        server.timeout = 0
        server.handle_request()
        assert server.calls == ["handle_timeout"]
        server.calls.clear()
    assert server.calls == ["server_close"]


def test_what_is_not_welcome_is_closed() -> None:
    with Hooked(refuses=True) as server, connected(server) as client:
        server.calls.clear()
        server.handle_request()
        assert server.calls == [*ACCEPTED, *CLOSED]
        assert client.recv(10) == b""


def test_service_actions_that_are_overridden_are_called_in_between() -> None:
    called = threading.Semaphore(0)

    class Server(socketserver.TCPServer):
        def service_actions(self) -> None:
            called.release()

    with served(Server(LOCALHOST, Echo), poll_interval=0.001):
        for _ in range(5):
            assert called.acquire(timeout=30)


def test_service_actions_are_called_after_each_request_without_a_poll() -> None:
    called = threading.Semaphore(0)

    class Server(socketserver.TCPServer):
        def service_actions(self) -> None:
            called.release()

    with served(Server(LOCALHOST, Echo)) as server:
        assert answer(server) == b"hello\n"
        assert called.acquire(timeout=30)


def test_a_server_waits_for_the_descriptor_that_it_names() -> None:
    ours, theirs = socket.socketpair()

    class Server(socketserver.BaseServer):
        def fileno(self) -> int:
            return ours.fileno()

        def get_request(self) -> tuple[bytes, str]:
            return ours.recv(100), "nobody"

        def finish_request(self, request: Any, client_address: Any) -> None:
            ours.send(request.upper())

        process_request = finish_request

    with ours, theirs, served(Server(("nowhere", 0), Echo)):
        theirs.send(b"hello")
        assert theirs.recv(100) == b"HELLO"


def test_a_request_is_closed_if_the_report_of_its_failure_fails() -> None:
    kept = []

    class Server(socketserver.TCPServer):
        def process_request(self, request: Any, client_address: Any) -> None:
            kept.append(request)
            raise ValueError("no")

        def handle_error(self, request: Any, client_address: Any) -> None:
            raise KeyError("neither")

    with Server(LOCALHOST, Echo) as server, connected(server) as client:
        with pytest.raises(KeyError):
            server.handle_request()
        assert client.recv(10) == b""
        assert kept[0].fileno() == -1


def test_a_client_that_cannot_be_judged_does_not_end_the_server() -> None:
    class Server(socketserver.TCPServer):
        errors: list[BaseException | None] = []

        def verify_request(self, request: Any, client_address: Any) -> bool:
            if not self.errors:
                raise ValueError("who is that?")
            return True

        def handle_error(self, request: Any, client_address: Any) -> None:
            self.errors.append(sys.exc_info()[1])

    with served(Server(LOCALHOST, Echo)) as server:
        assert answer(server, b"") == b""
        assert [str(error) for error in server.errors] == ["who is that?"]
        assert answer(server) == b"hello\n"


def test_an_error_is_shown_as_by_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            raise ValueError("no")

    printed = []
    for module in (standard, socketserver):
        screen = io.StringIO()
        monkeypatch.setattr(sys, "stderr", screen)
        with module.TCPServer(LOCALHOST, Handler) as server, connected(server) as client:
            server.handle_request()
            port = client.getsockname()[1]
        printed.append(
            re.sub(r"(?m)^  File .*\n(    .*\n)+|\d*" + str(port), "", screen.getvalue())
        )
    assert "ValueError: no" in printed[0]
    assert printed[0] == printed[1]


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer, socketserver.TCPServer):
    """One of another module, which becomes one of ours by the class after it."""


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(threading.current_thread().name.encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_a_server_of_another_module_becomes_one_of_ours() -> None:
    assert Server.server_bind is http.server.HTTPServer.server_bind
    with served(Server(LOCALHOST, Hello)) as server:
        port = server.server_address[1]
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
                assert page.read().startswith(b"Server-")


def test_the_mix_in_alone_works_with_a_loop_of_the_standard_library() -> None:
    class Theirs(socketserver.ThreadingMixIn, http.server.HTTPServer):
        max_threads = 1

    with served(Theirs(LOCALHOST, Hello), poll_interval=0.01) as server:
        for _ in range(3):
            client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            client.request("GET", "/")
            assert client.getresponse().read().startswith(b"Theirs-")
            client.close()
        eventually(lambda: len(server._threads) == 0, "threads are not kept without a loop of ours")


def test_programs_that_import_socketserver_can_be_given_ours() -> None:
    script = """
import sys
import manyhands.server
sys.modules["socketserver"] = manyhands.server
import http.server
assert issubclass(http.server.ThreadingHTTPServer, manyhands.server.ThreadingMixIn)
assert issubclass(http.server.HTTPServer, manyhands.server.TCPServer)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=50)


def test_the_module_does_not_import_the_workers() -> None:
    script = "import sys, manyhands.server; assert 'manyhands._pool' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_no_poll_interval_is_no_poll() -> None:
    assert NEVER_S > 3600
    with served(socketserver.TCPServer(LOCALHOST, Echo), poll_interval=None) as server:  # type: ignore[arg-type]
        assert answer(server) == b"hello\n"
