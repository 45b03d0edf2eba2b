"""A server of one library, called the way its own documentation recommends, and what it serves."""

from __future__ import annotations

import abc
import socketserver
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from benches.contender import Contender

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from benches.contender import Kind

    StreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# Whether a client's connection is kept for all it asks, or answered once and closed.
Manners = Literal["keep", "close"]
HOST = "127.0.0.1"
# More than is in a request.
PIECE = 65536
# More connections at a time than any benchmark has, for servers that have to be told how many.
PLACES = 256


class ServerContender(Contender, abc.ABC):
    """Serves an echo on a free port of this machine.

    Raises ImportError when constructed without the library being installed.
    """

    def __init__(self, kind: Kind = "server") -> None:
        self.kind: Kind = kind

    @abc.abstractmethod
    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve until this process is killed; call `tell` with the port as soon as it listens."""


class KeepingHandler(socketserver.BaseRequestHandler):
    """Answers until the client closes the connection."""

    request: socket.socket

    def handle(self) -> None:
        """Send back whatever comes."""
        keep(self.request)


class ClosingHandler(socketserver.BaseRequestHandler):
    """Answers once; the server closes the connection."""

    request: socket.socket

    def handle(self) -> None:
        """Send back what comes first."""
        answer(self.request)


def keep(connection: socket.socket, *address: object) -> None:
    """Send back whatever comes, until the client closes the connection."""
    # The load ends by closing connections under a request. A traceback of each would be measured.
    with suppress(ConnectionError):
        while data := connection.recv(PIECE):
            connection.sendall(data)


def answer(connection: socket.socket, *address: object) -> None:
    """Send back what comes first."""
    with suppress(ConnectionError):
        connection.sendall(connection.recv(PIECE))


async def stream_keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back whatever comes, until the client closes the connection."""
    with suppress(ConnectionError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()


async def stream_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes first."""
    with suppress(ConnectionError):
        writer.write(await reader.read(PIECE))
        await writer.drain()
    writer.close()


HANDLERS: Mapping[Manners, type[socketserver.BaseRequestHandler]] = {
    "keep": KeepingHandler,
    "close": ClosingHandler,
}
FUNCTIONS: Mapping[Manners, Callable[..., None]] = {"keep": keep, "close": answer}
STREAM_HANDLERS: Mapping[Manners, StreamHandler] = {
    "keep": stream_keep,
    "close": stream_answer,
}
