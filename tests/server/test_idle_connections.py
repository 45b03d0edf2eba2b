"""The end of a server closes idle connections, and none whose client has asked for something."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from eventually import eventually
from manyhands._server.stream_socket import StreamSocket
from manyhands.server import Server
from serving import WATCHDOG, client, read_all, serving


@contextmanager
def waiting() -> Iterator[tuple[StreamSocket, StreamSocket]]:
    """Two ends, of which the first has sent something, and a thread waits for an answer to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = socket.create_connection(listening.getsockname())
        ours = StreamSocket(fileno=listening.accept()[0].detach())
    theirs = StreamSocket(fileno=other.detach())
    ours.settimeout(WATCHDOG)

    def wait() -> None:
        ours.sendall(b"welcome")
        while ours.recv(100):
            pass

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        assert theirs.recv(100) == b"welcome"
        eventually(ours.is_idle, "it waits for a request")
        yield ours, theirs
    finally:
        theirs.close()
        thread.join(WATCHDOG)
        ours.close()


def test_a_request_that_nobody_has_read_is_one() -> None:
    with waiting() as (ours, theirs):
        # The thread that waits is not woken for less than this.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 100)
        theirs.sendall(b"request")
        assert not ours.is_idle()


def test_a_request_is_one_before_its_reader_has_the_interpreter() -> None:
    with waiting() as (ours, theirs):
        before = sys.getswitchinterval()
        sys.setswitchinterval(WATCHDOG)
        try:
            # This sends without giving the interpreter away.
            theirs.send(b"request")
            end = time.perf_counter() + 0.01
            while time.perf_counter() < end:
                pass
            assert not ours.is_idle()
        finally:
            sys.setswitchinterval(before)


class Upper:
    """Answers in upper case, but notes; holds up its event loop when it is asked to."""

    def __init__(self) -> None:
        self.noted = threading.Event()
        self.held = threading.Event()
        self.go = threading.Event()

    def __call__(self, message: bytes) -> bytes | None:
        if message == b"note":
            self.noted.set()
            return None
        if message == b"hold":
            self.held.set()
            assert self.go.wait(WATCHDOG)
        return message.upper()


@contextmanager
def ending(server: Server, idle: socket.socket) -> Iterator[None]:
    """End the server; the block runs when connections that are idle have been closed."""
    ends = threading.Thread(target=server.shutdown)
    ends.start()
    try:
        assert read_all(idle) == b""
        yield
    finally:
        ends.join(WATCHDOG)


@pytest.mark.parametrize("before", [b"", b"hello\n"])
def test_what_an_event_loop_has_not_read_is_answered(before: bytes) -> None:
    upper = Upper()
    with (
        ExitStack() as clients,
        serving(upper, workers="coroutine", framing="lines", grace=WATCHDOG) as server,
    ):
        idle, holds, asks = (clients.enter_context(client(server)) for _ in range(3))
        idle.sendall(b"hello\n")
        assert idle.recv(100) == b"HELLO\n"
        asks.sendall(before)
        assert not before or asks.recv(100) == before.upper()
        holds.sendall(b"hold\n")
        assert upper.held.wait(WATCHDOG)
        asks.sendall(b"late\n")
        with ending(server, idle):
            upper.go.set()
        assert read_all(holds) == b"HOLD\n"
        assert read_all(asks) == b"LATE\n"


def test_half_a_message_is_waited_for_and_a_note_needs_no_answer() -> None:
    upper = Upper()
    with (
        ExitStack() as clients,
        serving(upper, workers="coroutine", framing="lines", grace=WATCHDOG) as server,
    ):
        asks, notes = (clients.enter_context(client(server)) for _ in range(2))
        asks.sendall(b"hello\nla")
        assert asks.recv(100) == b"HELLO\n"
        notes.sendall(b"note\n")
        assert upper.noted.wait(WATCHDOG)
        with ending(server, notes):
            asks.sendall(b"te\n")
        assert read_all(asks) == b"LATE\n"
