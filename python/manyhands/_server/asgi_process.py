"""A process that serves an ASGI application with uvicorn.

uvicorn has the event loop, the protocols and the application's lifespan. Accepting and the end are
decided here: uvicorn would close connections whose first request is on its way, take all of the
listener's queue at once, and react to signals that are for the parent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from manyhands._server.http_process import (
    LAST_WORDS_S,
    LOOK_S,
    PAUSE_S,
    UNDER_WAY_S,
    HttpProcess,
)
from manyhands._server.process_worker import run

if TYPE_CHECKING:
    import socket
    import ssl as tls
    from collections.abc import Callable, Iterator

    from manyhands._server.application import Application

__all__ = ["main"]

logger = logging.getLogger("manyhands.server")

# How often uvicorn makes another Date header.
TICK_S = 1.0


class AsgiProcess(HttpProcess, uvicorn.Server):
    """uvicorn over a listener that other processes have, too."""

    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        listening: socket.socket,
        application: Application,
        *,
        max_connections: int,
        ssl: Callable[[], tls.SSLContext] | None,
        handshake_timeout: float,
        grace: float,
    ) -> None:
        HttpProcess.__init__(self, listening, grace)
        config = uvicorn.Config(
            application.find(),
            log_config=None,
            log_level="info",
            access_log=False,
            ssl_context_factory=None if ssl is None else lambda *_: ssl(),
        )
        uvicorn.Server.__init__(self, config)
        self._room = max_connections
        self._tls = {} if ssl is None else {"ssl_handshake_timeout": handshake_timeout}
        self._arriving: set[asyncio.Task[None]] = set()

    def serve_forever(self) -> None:
        """As `HttpProcess.serve_forever`; an application that cannot start up is exit code 3."""
        try:
            self.run(sockets=[])
        finally:
            self._finish()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: the parent says when it is time."""
        yield

    async def main_loop(self) -> None:
        """Accept until the end is asked for."""
        self._asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        # Once, before anybody is answered: it makes the headers.
        await self.on_tick(0)
        self._open_door()
        self._begin()
        while self._deadline is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), TICK_S)
            await self.on_tick(0)

    async def shutdown(self, sockets: object = None) -> None:  # noqa: ARG002 - ours is another
        """End what is idle, then what has had its grace, then the application."""
        self._close_door()
        self._announce()
        await self._drain()
        await self._end_all()
        await self.lifespan.shutdown()

    def _wake(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._asked.set)

    def _active(self) -> int:
        return len(self.server_state.connections) + len(self._arriving)

    def _requests(self) -> int:
        return self.server_state.total_requests

    def _open_door(self) -> None:
        """Accept from now on, unless it is over."""
        if self._deadline is None:
            self._here.add_reader(self._listening.fileno(), self._accept)

    def _close_door(self) -> None:
        self._here.remove_reader(self._listening.fileno())

    @property
    def _here(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    def _accept(self) -> None:
        """Take one connection, so that others in the queue go to processes with less to do."""
        if self._active() >= self._room:
            self._pause()
            return
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another process has it, or its client has gone
        except OSError as error:
            self._note_not_accepted(error)
            self._pause()
            return
        connection.setblocking(False)
        arriving = self._here.create_task(self._connect(connection))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)
        self._note_accepted()

    def _pause(self) -> None:
        self._close_door()
        self._here.call_later(PAUSE_S, self._open_door)

    async def _connect(self, connection: socket.socket) -> None:
        """Give a connection to uvicorn, after its TLS handshake if there is one."""
        try:
            await self._here.connect_accepted_socket(
                self._protocol, connection, ssl=self.config.ssl, **self._tls
            )
        except OSError as error:
            self._disconnected += 1
            logger.debug("a client has gone before it said anything: %s", error)
            connection.close()

    def _protocol(self) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = made(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=self._loop,
        )
        return protocol

    def _announce(self) -> None:
        """Have the responses that have not begun say that they are the last of their connection."""
        headers = [*self.server_state.default_headers, (b"connection", b"close")]
        self.server_state.default_headers = headers
        for connection in self.server_state.connections:
            if (cycle := getattr(connection, "cycle", None)) is not None:
                cycle.default_headers = headers

    async def _drain(self) -> None:
        """Wait for what is being served, for as long as there is grace."""
        silent_until = time.monotonic() + UNDER_WAY_S
        while self._active() or self.server_state.tasks:
            # What has arrived by now is read before anything is closed.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self._left() <= 0:
                return
            for connection in list(self.server_state.connections):
                if not connection.transport.is_closing() and not _is_between(
                    connection, time.monotonic() < silent_until
                ):
                    connection.shutdown()
            await asyncio.sleep(min(max(0.0, self._left()), LOOK_S))

    async def _end_all(self) -> None:
        """End the connections and tasks that there still are."""
        self._drop(self._active())
        for arriving in self._arriving:
            arriving.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        # Applications that wait for their clients hear of it, before they are interrupted.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if tasks := [*self.server_state.tasks]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=LAST_WORDS_S)


def _is_between(connection: Any, may_be_silent: bool) -> bool:
    """Tell whether a request is on its way that uvicorn's `shutdown` of a connection would lose."""
    if not hasattr(connection, "cycle"):
        return False  # a websocket: its client is told that the service restarts
    if connection.cycle is None:
        return may_be_silent
    # The time for another request runs unless a part of it has come.
    return connection.cycle.response_complete and connection.timeout_keep_alive_task is None


def main(control_fd: int, listener_fd: int, settings_fd: int, ledger_fd: int) -> None:
    """As `process_worker.main`, for an ASGI application."""
    run(AsgiProcess, control_fd, listener_fd, settings_fd, ledger_fd)
