"""`ThreadingMixIn` of the drop-in for `socketserver`: how many threads, which, and for how long."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import manyhands.server as socketserver
from children import thread
from eventually import eventually
from manyhands._server import handler_threads
from served import LOCALHOST, NEVER_S, WAIT_S, Echo, answer, served, wait_until_it_polls
from serving import client as connected


class Name(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(threading.current_thread().name.encode())


class Held(socketserver.BaseRequestHandler):
    """Says hello, and goes on when it is told to."""

    def handle(self) -> None:
        self.request.sendall(b"hello\n")
        self.request.recv(10)


def hold(server: Any) -> socket.socket:
    """Return a connection of which a handler has been told."""
    client = connected(server)
    assert client.recv(10) == b"hello\n"
    return client


class Busy(socketserver.ThreadingTCPServer):
    """Handles two requests at a time."""

    max_threads = 2


def test_a_thread_is_used_again() -> None:
    with served(socketserver.ThreadingTCPServer(LOCALHOST, Name)) as server:
        names = set()
        for _ in range(20):
            names.add(answer(server, b""))
            eventually(lambda: server._threads._parked, "the thread waits for another request")
        assert names == {b"ThreadingTCPServer-1"}


def test_threads_are_used_once_if_told_so() -> None:
    class Server(socketserver.ThreadingTCPServer):
        reuse_threads = False

    with served(Server(LOCALHOST, Name)) as server:
        assert [answer(server, b"") for _ in range(3)] == [b"Server-1", b"Server-2", b"Server-3"]
        eventually(lambda: len(server._threads) == 0, "finished threads are not remembered")


def test_no_more_requests_at_a_time_than_allowed_and_none_is_lost() -> None:
    with served(Busy(LOCALHOST, Held)) as server:
        first, second = hold(server), hold(server)
        waiting = [connected(server) for _ in range(5)]
        # They are in the queue of the listener, where the system has them: not accepted.
        eventually(lambda: not server._may_accept(), "the server is full")
        assert len(server._threads) == 2
        first.close()
        second.close()
        for client in waiting:
            with client:
                assert client.recv(10) == b"hello\n"
                assert len(server._threads) <= 2


def test_a_server_that_is_full_is_shut_down_at_once() -> None:
    server = Busy(LOCALHOST, Held)
    with thread(server.serve_forever, NEVER_S) as loop, hold(server), hold(server):
        waiting = connected(server)
        wait_until_it_polls(loop)
        server.shutdown()
    # Nobody accepted it, so it is still there for whoever serves next.
    with served(server):
        assert waiting.recv(10) == b"hello\n"
        waiting.close()


def test_single_requests_wait_for_room() -> None:
    with Busy(LOCALHOST, Held) as server:
        clients = []
        for _ in range(2):
            clients.append(connected(server))
            server.handle_request()
        third = connected(server)
        with thread(server.handle_request) as waits:
            with clients.pop():
                pass
            waits.join(WAIT_S)
        assert third.recv(10) == b"hello\n"
        for client in (third, *clients):
            client.close()


def test_nonsense_is_refused() -> None:
    class Server(socketserver.ThreadingTCPServer):
        max_threads = 0

    with (
        Server(LOCALHOST, Echo) as server,
        pytest.raises(ValueError, match="max_threads of Server"),
    ):
        server.serve_forever()


def test_no_bound() -> None:
    class Server(socketserver.ThreadingTCPServer):
        max_threads = None

    with served(Server(LOCALHOST, Held)) as server:
        clients = [hold(server) for _ in range(20)]
        for client in clients:
            client.close()


def test_context_variables_are_those_of_one_request() -> None:
    seen: list[str] = []
    variable: ContextVar[str] = ContextVar("variable", default="nothing")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen.append(variable.get())
            variable.set("of another client")

    with served(socketserver.ThreadingTCPServer(LOCALHOST, Handler)) as server:
        for _ in range(3):
            answer(server, b"")
            eventually(lambda: server._threads._parked, "the thread waits for another request")
    assert seen == ["nothing"] * 3


@pytest.mark.parametrize("is_daemon", [False, True])
def test_daemon_threads(is_daemon: bool) -> None:
    seen = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen.append(threading.current_thread().daemon)

    with served(socketserver.ThreadingTCPServer(LOCALHOST, Handler)) as server:
        for value in (is_daemon, not is_daemon, is_daemon):
            server.daemon_threads = value
            answer(server, b"")
    assert seen == [is_daemon, not is_daemon, is_daemon]


def close_in_a_thread(server: socketserver.BaseServer) -> threading.Thread:
    closing = threading.Thread(target=server.server_close, daemon=True)
    closing.start()
    return closing


def test_closing_waits_for_what_is_handled() -> None:
    server = socketserver.ThreadingTCPServer(LOCALHOST, Held)
    with thread(server.serve_forever), hold(server) as client:
        server.shutdown()
        closing = close_in_a_thread(server)
        eventually(lambda: server.socket.fileno() == -1, "the listener is closed")
        assert closing.is_alive()
        assert len(server._threads) == 1
        client.close()
        closing.join(WAIT_S)
        assert not closing.is_alive()
        assert len(server._threads) == 0


@pytest.mark.parametrize("setting", ["daemon_threads", "block_on_close"])
def test_closing_does_not_wait_if_told_so(setting: str) -> None:
    server = socketserver.ThreadingTCPServer(LOCALHOST, Held)
    setattr(server, setting, setting == "daemon_threads")
    with thread(server.serve_forever), hold(server):
        server.shutdown()
        server.server_close()
        assert len(server._threads) == 1


def test_closing_waits_for_its_own_threads_only() -> None:
    with served(socketserver.ThreadingTCPServer(LOCALHOST, Held)) as other, hold(other):
        with served(socketserver.ThreadingTCPServer(LOCALHOST, Echo)) as server:
            answer(server)
        assert len(other._threads) == 1


def test_a_handler_may_close_its_server() -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.server.shutdown()
            self.server.server_close()
            self.request.sendall(b"closed")

    server = socketserver.ThreadingTCPServer(LOCALHOST, Handler)
    with thread(server.serve_forever, NEVER_S):
        assert answer(server, b"") == b"closed"


def test_a_signal_handler_may_close_the_server_whatever_its_thread_does() -> None:
    """The main thread hands over requests, while it is interrupted again and again."""

    class Server(socketserver.ThreadingTCPServer):
        reuse_threads = False

        def server_close(self) -> None:
            socketserver.ThreadingMixIn._threads.__get__(self, Server).join()

    server = Server(LOCALHOST, Echo)
    main = threading.main_thread().ident or 0
    is_over = threading.Event()
    closed: queue.SimpleQueue[None] = queue.SimpleQueue()

    def close(*_: object) -> None:
        server.server_close()
        closed.put(None)

    def interrupt() -> None:
        while not is_over.is_set():
            signal.pthread_kill(main, signal.SIGUSR1)
            closed.get()  # else the handler would be interrupted, and so on

    def ask() -> None:
        for _ in range(200):
            assert answer(server) == b"hello\n"
        is_over.set()
        server.shutdown()

    before = signal.signal(signal.SIGUSR1, close)
    try:
        with thread(ask), thread(interrupt):
            server.serve_forever(NEVER_S)
    finally:
        is_over.set()
        signal.signal(signal.SIGUSR1, before)
        server.socket.close()


def test_an_exit_in_a_handler_is_told_of_and_its_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if self.rfile.readline() == b"exit\n":
                sys.exit("of the handler")
            self.wfile.write(threading.current_thread().name.encode())

    with served(socketserver.ThreadingTCPServer(LOCALHOST, Handler)) as server:
        assert answer(server, b"exit\n") == b""
        eventually(lambda: server._threads._parked, "the thread waits for another request")
        assert answer(server) == b"ThreadingTCPServer-1"
    assert [each.exc_type for each in told] == [SystemExit]


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Have threads of servers not start while the list is not empty."""
    refused: list[bool] = []
    start = threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if refused and isinstance(thread, handler_threads._HandlerThread):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    yield refused
    refused.clear()


def test_requests_wait_where_no_thread_can_be_started(no_more_threads: list[bool]) -> None:
    with served(socketserver.ThreadingTCPServer(LOCALHOST, Held)) as server:
        with hold(server) as first:
            no_more_threads.append(True)
            second, third = connected(server), connected(server)
            eventually(lambda: not server._may_accept(), "the server is full")
            first.close()
            for client in (second, third):
                with client:
                    assert client.recv(10) == b"hello\n"


def test_without_any_thread_a_request_fails_and_is_closed(no_more_threads: list[bool]) -> None:
    errors = []

    class Server(socketserver.ThreadingTCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            errors.append(str(sys.exc_info()[1]))

    with served(Server(LOCALHOST, Echo)) as server:
        no_more_threads.append(True)
        assert answer(server, b"") == b""
        assert errors == ["can't start new thread"]
        no_more_threads.clear()
        assert answer(server) == b"hello\n"


def test_threads_that_have_nothing_to_do_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "_IDLE_S", 0.01)
    with served(socketserver.ThreadingTCPServer(LOCALHOST, Echo)) as server:
        assert answer(server) == b"hello\n"
        eventually(lambda: len(server._threads) == 0, "the thread has ended")
        assert answer(server) == b"hello\n"


def test_threads_that_wait_end_with_the_loop() -> None:
    with socketserver.ThreadingTCPServer(LOCALHOST, Held) as server:
        with thread(server.serve_forever, NEVER_S):
            clients = [hold(server) for _ in range(5)]
            for client in clients:
                client.close()
            eventually(lambda: len(server._threads._parked) == 5, "all wait for another request")
            server.shutdown()
        eventually(lambda: threading.active_count() == 1, "the threads have ended")


def test_a_thousand_single_requests_leave_no_thread() -> None:
    with socketserver.ThreadingTCPServer(LOCALHOST, Echo) as server:
        for _ in range(1000):
            with connected(server):
                server.handle_request()
        eventually(lambda: len(server._threads) == 0, "finished threads are not remembered")


PROGRAM = """
import socket, threading, time
import manyhands.server as socketserver

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())
        if self.rfile.readline() == b"slowly\\n":
            time.sleep(0.2)
            print("handled", flush=True)

server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon={daemon}).start()

def ask(last):
    client = socket.create_connection(server.server_address)
    client.sendall(b"hello\\n")
    client.recv(100)
    client.sendall(last)
    return client

ask(b"quickly\\n").recv(100)
client = ask(b"slowly\\n")
{rest}
"""
# The main thread ends first, and something is asked while the interpreter waits for the server.
LATER = """
def later():
    threading.main_thread().join()
    ask(b"slowly\\n").recv(100)
    ask(b"slowly\\n").recv(100)
    server.shutdown()
threading.Thread(target=later).start()
"""


@pytest.mark.parametrize(
    ("daemon", "rest", "handled"),
    [(True, "", 1), (False, "server.shutdown()", 1), (False, LATER, 3)],
    ids=["daemon", "shut down", "served until later"],
)
def test_the_program_ends_when_what_is_handled_is_done(
    daemon: bool, rest: str, handled: int
) -> None:
    program = PROGRAM.format(daemon=daemon, rest=rest)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "handled\n" * handled


def test_a_child_of_the_program_has_threads_of_its_own() -> None:
    with served(Busy(LOCALHOST, Held)) as server, hold(server), hold(server):
        eventually(lambda: not server._may_accept(), "the server is full")
        child = os.fork()
        if child == 0:
            os._exit(0 if server._may_accept() and len(server._threads) == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
