"""Servers that run in a thread for as long as a test needs them."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from manyhands.server import Server

WATCHDOG = 30.0

AnyServer = TypeVar("AnyServer", bound=Server)


@contextmanager
def serving(handler: Any, address: Any = ("127.0.0.1", 0), **options: Any) -> Iterator[Server]:
    """Serve with a handler; see `running`."""
    with running(Server(address, handler, **options)) as server:
        yield server


@contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """Serve in a thread; what serve_forever raises is raised at the end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            server.serve_forever()
        except BaseException as error:
            errors.append(error)

    with server:
        thread = threading.Thread(target=run, name="serving")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(WATCHDOG)
    assert not thread.is_alive(), "serve_forever does not end"
    if errors:
        raise errors[0]


def client(server: Any) -> socket.socket:
    """Connect to a server, ours or one of `socketserver`."""
    family = server.socket.family
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(WATCHDOG)
    made.connect(server.server_address)
    return made


def ask(server: Any, request: bytes) -> bytes:
    """Send a request, say that it is all, and return all of the answer."""
    with client(server) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the end."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def run_program(text: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    command = [sys.executable, "-X", "dev", "-c", text]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=False)
