"""A client that speaks HTTP to a server of a test."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from serving import WATCHDOG

CERTIFICATE = Path(__file__).parent / "localhost.pem"


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def context() -> ssl.SSLContext:
    """Make what a server needs for TLS."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    return made


class Connection(http.client.HTTPConnection):
    """One connection to any address, with TLS or without."""

    auto_open = 0  # a second one

    def __init__(self, address: Any, tls: bool = False) -> None:
        super().__init__("localhost", timeout=WATCHDOG)
        self._address, self._tls = address, tls

    def connect(self) -> None:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(WATCHDOG)
        made.connect(self._address)
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
            made = trusting.wrap_socket(made, server_hostname="localhost")
        self.sock = made

    def ask(self, path: str, body: Any = None, **more: Any) -> Answer:
        """Send a request and return the answer; the connection stays open."""
        self.request("GET" if body is None else "POST", path, body, **more)
        return self.read()

    def read(self) -> Answer:
        """Return the answer to a request that has been sent."""
        response = self.getresponse()
        return Answer(response.status, response.headers, response.read())


@contextmanager
def connected(server: Any, tls: bool = False) -> Iterator[Connection]:
    """Connect for the length of a block."""
    connection = Connection(server.server_address, tls)
    try:
        connection.connect()
        yield connection
    finally:
        connection.close()


def ask(server: Any, path: str, body: Any = None, *, tls: bool = False, **more: Any) -> Answer:
    """Ask over a connection of its own."""
    with connected(server, tls) as connection:
        return connection.ask(path, body, **more)
