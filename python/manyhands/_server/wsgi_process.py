"""A process that serves a WSGI application with waitress.

waitress reads requests and writes responses in one loop, so that slow clients take no thread, and
calls the application in threads. When it ends, and TLS, which it has not, is decided here.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.server import create_server

from manyhands._server.http_process import LAST_WORDS_S, LOOK_S, PAUSE_S, HttpProcess
from manyhands._server.process_worker import run
from manyhands._server.wsgi_channel import Channel, TlsChannel

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable

    from manyhands._server.application import Application

__all__ = ["main"]

logger = logging.getLogger("manyhands.server")

# How often to look for clients that do not finish their handshake.
HANDSHAKE_LOOK_S = 1.0
# What else waitress counts as connections: the listener, and what wakes it.
OTHERS = 2


class WsgiProcess(HttpProcess):
    """waitress over a listener that other processes have, too."""

    def __init__(
        self,
        listening: socket.socket,
        application: Application,
        *,
        threads: int,
        max_connections: int,
        ssl: Callable[[], tls.SSLContext] | None,
        handshake_timeout: float,
        grace: float,
    ) -> None:
        super().__init__(listening, grace)
        # It would report each request that waits for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._server = create_server(
            application.find(),
            self._map,
            sockets=[listening],
            threads=threads,
            backlog=socket.SOMAXCONN,
            connection_limit=max_connections + OTHERS,
            url_scheme="http" if ssl is None else "https",
            # What uvicorn believes by default, and of whom.
            trusted_proxy="localhost" if listening.family == socket.AF_UNIX else "127.0.0.1",
            trusted_proxy_headers={"x-forwarded-for", "x-forwarded-proto"},
        )
        self._server.readable = self._may_accept
        self._server.accept = self._accept
        self._server.channel_class = self._channel
        self._server.process = self
        self._kind = Channel if ssl is None else TlsChannel
        self.tls = None if ssl is None else ssl()
        self.handshake_timeout = handshake_timeout
        self._shut_until = 0.0
        self._answering = threading.Lock()
        self._answered = 0

    def serve_forever(self) -> None:
        """As `HttpProcess.serve_forever`."""
        self._begin()
        look_at = 0.0
        while self._deadline is None:
            self._turn(HANDSHAKE_LOOK_S)
            if self.tls and (now := time.monotonic()) >= look_at:
                look_at = now + HANDSHAKE_LOOK_S
                for channel in self._channels():
                    if channel.is_late():
                        channel.handle_close()
        self._server.accepting = False
        self._drain()
        self._end_all()
        self._finish()

    def note_answer(self) -> None:
        """Count a request that has been answered."""
        with self._answering:  # many threads do
            self._answered += 1

    def note_disconnected(self) -> None:
        """Count a client that has not finished its handshake."""
        self._disconnected += 1

    def _wake(self) -> None:
        self._server.pull_trigger()

    def _active(self) -> int:
        return len(self._server.active_channels)

    def _requests(self) -> int:
        return self._answered

    def _channels(self) -> list[Channel]:
        return list(self._server.active_channels.values())

    def _may_accept(self) -> bool:
        """Tell waitress whether to look at the listener."""
        if time.monotonic() < self._shut_until:
            return False
        return bool(type(self._server).readable(self._server))

    def _accept(self) -> Any:
        """Accept for waitress, which would try again at once where there are no descriptors."""
        try:
            return wasyncore.dispatcher.accept(self._server)
        except OSError as error:
            self._note_not_accepted(error)
            self._shut_until = time.monotonic() + PAUSE_S
            return None

    def _channel(self, server: Any, connection: socket.socket, *more: Any, **options: Any) -> None:
        """Have waitress serve a connection that it has accepted."""
        try:
            self._kind(server, connection, *more, **options)
        except OSError as error:
            self.note_disconnected()
            logger.debug("a client has gone before it said anything: %s", error)
            connection.close()
        self._note_accepted()

    def _turn(self, timeout: float) -> None:
        """Do what can be done, or wait for it."""
        if self._is_short:
            timeout = min(timeout, PAUSE_S)
        wasyncore.loop(timeout, use_poll=True, map=self._map, count=1)

    def _drain(self) -> None:
        """Wait for what is being served, for as long as there is grace."""
        pause = 0.0  # what has arrived by now is read before anything is closed
        while self._server.active_channels and (left := self._left()) > 0:
            self._turn(min(left, pause))
            channels = self._channels()
            for channel in channels:
                channel.end_with_response()
            for channel in channels:
                if channel.is_idle():
                    channel.handle_close()
            pause = LOOK_S

    def _end_all(self) -> None:
        """End the connections that there still are, and the threads."""
        self._drop(self._active())
        for channel in self._channels():
            channel.cancel()
            channel.handle_close()
        self._server.task_dispatcher.shutdown(timeout=max(self._left(), LAST_WORDS_S))


def main(control_fd: int, listener_fd: int, settings_fd: int, ledger_fd: int) -> None:
    """As `process_worker.main`, for a WSGI application."""
    run(WsgiProcess, control_fd, listener_fd, settings_fd, ledger_fd)
