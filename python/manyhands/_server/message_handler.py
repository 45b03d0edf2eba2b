"""Handlers of messages: functions that get one message of a client, and return a reply."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._server.handler import is_asynchronous, name_of, takes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from manyhands._native import StreamReader, StreamWriter

__all__ = ["MessageHandler"]

# How much is read at a time.
CHUNK = 1 << 16


class MessageHandler:
    """Serves connections by the messages of their clients.

    Args:
        handler: what users give: a function of a message, or of a message and the client's address.
            Each connection has a context of its own, in which all of its messages are handled.
        framing: how messages are told from each other: ``"lines"``, ``"u32"`` or ``"raw"``.
        limit: how long one may be, in bytes.

    Raises:
        TypeError: the handler cannot be called so.
        ValueError: the framing is none.
    """

    def __init__(self, handler: Any, framing: str, limit: int) -> None:
        _native.MessageFramer(framing, limit)
        may_be_called = callable(handler) and not isinstance(handler, type)
        self._with_address = may_be_called and not takes(handler, 1) and takes(handler, 2)
        if not may_be_called or not (self._with_address or takes(handler, 1)):
            raise TypeError(
                f"{name_of(handler)} cannot handle messages: pass a function of a message, or of "
                "a message and the address of the client, that returns a reply or None"
            )
        self._handler = handler
        self._framing = framing
        self._limit = limit
        self.is_asynchronous = is_asynchronous(handler)

    def of_client(self, address: Any) -> Callable[[bytes], object]:
        """Return what is called with each message of one client."""
        handler = self._handler
        if self._with_address:
            return lambda message: handler(message, address)
        return handler  # type: ignore[no-any-return]

    def serve_socket(self, connection: socket.socket, address: Any, _server: object) -> None:
        """Serve a connection in a thread, until its client says no more."""
        copy_context().run(self._serve_socket, connection, address)

    def _serve_socket(self, connection: socket.socket, address: Any) -> None:
        framer = _native.MessageFramer(self._framing, self._limit)
        handler = self.of_client(address)
        while True:
            data = connection.recv(CHUNK)
            replies = bytearray()
            try:
                for message in framer.feed(data):
                    replies += framer.frame(handler(message))
            finally:
                # Those to what came before a message that cannot be handled, too.
                if replies:
                    connection.sendall(replies)
            if not data:
                return

    async def serve_streams(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve a connection in an event loop, until its client says no more."""
        framer = _native.MessageFramer(self._framing, self._limit)
        handler: Any = self.of_client(writer.get_extra_info("peername"))
        while True:
            data = await reader.read(CHUNK)
            for message in framer.feed(data):
                reply = handler(message)
                if self.is_asynchronous:
                    reply = await reply
                writer.write(framer.frame(reply))
                await writer.drain()
            if not data:
                return
