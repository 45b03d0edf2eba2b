"""Servers of sockets: ours, the standard library's, and two that are installed for speed."""

from __future__ import annotations

import asyncio
import importlib
import socketserver
from typing import TYPE_CHECKING, Any, ClassVar

from benches.server import FUNCTIONS, HANDLERS, HOST, PLACES, STREAM_HANDLERS, ServerContender

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.contender import Kind
    from benches.server import Manners

# Of the kernel's queue: with the five of socketserver, clients that come together wait a second.
BACKLOG = 512


class Manyhands(ServerContender):
    """`manyhands.server.Server`, its workers being threads."""

    distribution = "manyhands"
    labels: ClassVar[dict[Kind, str]] = {"server": "manyhands"}
    usage: ClassVar[dict[str, str]] = {
        "server": f"`Server(address, Handler, max_workers={PLACES})`, `serve_forever()`"
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve with threads."""
        from manyhands.server import Server

        with Server((HOST, 0), HANDLERS[manners], max_workers=PLACES) as server:
            tell(server.server_address[1])
            server.serve_forever()


class _Threading(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = BACKLOG


class _Forking(socketserver.ForkingTCPServer):
    max_children = PLACES
    request_queue_size = BACKLOG


class ThreadingServer(ServerContender):
    """A thread for each connection."""

    labels: ClassVar[dict[Kind, str]] = {"server": "ThreadingTCPServer"}
    usage: ClassVar[dict[str, str]] = {
        "server": "`socketserver.ThreadingTCPServer(address, Handler)`, `daemon_threads = True`, "
        f"`request_queue_size = {BACKLOG}`"
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve with threads."""
        _serve_forever(_Threading((HOST, 0), HANDLERS[manners]), tell)


class ForkingServer(ServerContender):
    """A process for each connection."""

    labels: ClassVar[dict[Kind, str]] = {"server": "ForkingTCPServer"}
    usage: ClassVar[dict[str, str]] = {
        "server": "`socketserver.ForkingTCPServer(address, Handler)`, "
        f"`max_children = {PLACES}`, `request_queue_size = {BACKLOG}`"
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve with processes."""
        _serve_forever(_Forking((HOST, 0), HANDLERS[manners]), tell)


class Asyncio(ServerContender):
    """Streams of asyncio, on its own event loop."""

    labels: ClassVar[dict[Kind, str]] = {"server": "asyncio"}
    usage: ClassVar[dict[str, str]] = {
        "server": f"`await asyncio.start_server(handle, host, port, backlog={BACKLOG})`, the "
        "handler of a reader and a writer"
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve in this thread."""
        asyncio.run(_serve_streams(manners, tell))


class Uvloop(ServerContender):
    """Streams of asyncio, on the event loop of uvloop."""

    distribution = "uvloop"
    labels: ClassVar[dict[Kind, str]] = {"server": "uvloop"}
    usage: ClassVar[dict[str, str]] = {"server": "as asyncio, by `uvloop.run`"}

    def __init__(self) -> None:
        self._uvloop: Any = importlib.import_module("uvloop")

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve in this thread."""
        self._uvloop.run(_serve_streams(manners, tell))


class Gevent(ServerContender):
    """A greenlet for each connection."""

    distribution = "gevent"
    labels: ClassVar[dict[Kind, str]] = {"server": "gevent"}
    usage: ClassVar[dict[str, str]] = {
        "server": f"`gevent.server.StreamServer(address, handle, backlog={BACKLOG})`, the handler "
        "a function of a socket"
    }

    def __init__(self) -> None:
        self._server: Any = importlib.import_module("gevent.server")

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve in this thread."""
        server = self._server.StreamServer((HOST, 0), FUNCTIONS[manners], backlog=BACKLOG)
        server.start()
        tell(server.server_port)
        server.serve_forever()


def _serve_forever(server: socketserver.TCPServer, tell: Callable[[int], None]) -> None:
    with server:
        tell(server.server_address[1])
        server.serve_forever()


async def _serve_streams(manners: Manners, tell: Callable[[int], None]) -> None:
    server = await asyncio.start_server(STREAM_HANDLERS[manners], HOST, 0, backlog=BACKLOG)
    tell(server.sockets[0].getsockname()[1])
    await server.serve_forever()
