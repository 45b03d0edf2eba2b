"""Servers of sockets: ours, the standard library's, and two that are installed for speed."""

from __future__ import annotations

import asyncio
import importlib
import socketserver
from typing import TYPE_CHECKING, Any, ClassVar, cast

from benches.server import FUNCTIONS, HANDLERS, HOST, PLACES, STREAM_HANDLERS, ServerContender

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.contender import Kind
    from benches.server import Manners

# Of the kernel's queue: with the five of socketserver, clients that come together wait a second.
BACKLOG = 512
# More connections than any benchmark of event loops has.
CROWD = 16_384


class Manyhands(ServerContender):
    """`manyhands.server.Server`, its workers being of each kind."""

    distribution = "manyhands"
    heading = "manyhands"
    labels: ClassVar[dict[Kind, str]] = dict.fromkeys(
        ("server", "process_server", "stream_server", "uvloop_server", "message_server"),
        "manyhands",
    )
    usage: ClassVar[dict[str, str]] = {
        "server": f"`Server(address, Handler, max_workers={PLACES})`, `serve_forever()`",
        "processes": '`Server(address, Handler, workers="process")`',
        "streams": f'`Server(address, handle, workers="coroutine", max_connections={CROWD})`, the '
        "handler of a reader and a writer; in `serve_uvloop_streams` with "
        "`loop_factory=uvloop.new_event_loop`",
        "messages": '`Server(address, echo, workers="coroutine", framing="lines")`, the handler a '
        "function of a line",
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve with the workers asked for."""
        from manyhands.server import Server

        handler, options = self._asked(manners)
        with Server((HOST, 0), handler, **options) as server:
            tell(server.server_address[1])
            server.serve_forever()

    def _asked(self, manners: Manners) -> tuple[Callable[..., Any], dict[str, Any]]:
        loops = {"workers": "coroutine", "max_connections": CROWD}
        match self.kind:
            case "process_server":
                return HANDLERS[manners], {"workers": "process"}
            case "stream_server":
                return STREAM_HANDLERS[manners], loops
            case "uvloop_server":
                new_loop = importlib.import_module("uvloop").new_event_loop
                return STREAM_HANDLERS[manners], {**loops, "loop_factory": new_loop}
            case "message_server":
                return _echo, {**loops, "framing": "lines"}
        return HANDLERS[manners], {"max_workers": PLACES}


def _echo(message: bytes) -> bytes:
    return message


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

    labels: ClassVar[dict[Kind, str]] = dict.fromkeys(
        ("server", "process_server"), "ForkingTCPServer"
    )
    usage: ClassVar[dict[str, str]] = {
        "server": "`socketserver.ForkingTCPServer(address, Handler)`, "
        f"`max_children = {PLACES}`, `request_queue_size = {BACKLOG}`"
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve with processes."""
        _serve_forever(_Forking((HOST, 0), HANDLERS[manners]), tell)


class Asyncio(ServerContender):
    """Streams of asyncio, on its own event loop."""

    labels: ClassVar[dict[Kind, str]] = dict.fromkeys(("server", "stream_server"), "asyncio")
    usage: ClassVar[dict[str, str]] = {
        "server": f"`await asyncio.start_server(handle, host, port, backlog={BACKLOG})`, the "
        "handler of a reader and a writer"
    }

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve in this thread."""
        asyncio.run(_serve_streams(manners, tell))


class _EchoProtocol(asyncio.Protocol):
    """Sends back whatever comes: the least that asyncio can be asked for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        self._write(data)


class Uvloop(ServerContender):
    """Streams of asyncio, or a protocol, on the event loop of uvloop."""

    distribution = "uvloop"
    heading = "uvloop"
    labels: ClassVar[dict[Kind, str]] = {
        **dict.fromkeys(("server", "stream_server", "uvloop_server"), "uvloop"),
        "message_server": "uvloop, a Protocol",
    }
    usage: ClassVar[dict[str, str]] = {
        "server": "as asyncio, by `uvloop.run`",
        "messages": "`await loop.create_server(Echo, host, port)`, whose `data_received` writes "
        "what came: it does not look for the ends of lines",
    }

    def __init__(self, kind: Kind = "server") -> None:
        super().__init__(kind)
        self._uvloop: Any = importlib.import_module("uvloop")

    def serve(self, manners: Manners, tell: Callable[[int], None]) -> None:
        """Serve in this thread."""
        serve = _serve_protocol if self.kind == "message_server" else _serve_streams
        self._uvloop.run(serve(manners, tell))


class Gevent(ServerContender):
    """A greenlet for each connection."""

    distribution = "gevent"
    labels: ClassVar[dict[Kind, str]] = {"server": "gevent"}
    usage: ClassVar[dict[str, str]] = {
        "server": f"`gevent.server.StreamServer(address, handle, backlog={BACKLOG})`, the handler "
        "a function of a socket"
    }

    def __init__(self, kind: Kind = "server") -> None:
        super().__init__(kind)
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


async def _serve_protocol(_: Manners, tell: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_EchoProtocol, HOST, 0, backlog=BACKLOG)
    tell(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _serve_streams(manners: Manners, tell: Callable[[int], None]) -> None:
    server = await asyncio.start_server(STREAM_HANDLERS[manners], HOST, 0, backlog=BACKLOG)
    tell(server.sockets[0].getsockname()[1])
    await server.serve_forever()
