"""One event loop of a server: it serves as many connections at a time as it is given."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from manyhands import _native
from manyhands._interpreter.living import Living
from manyhands._server.failure import log_failure, log_unproxied
from manyhands._server.forked_child import end_process
from manyhands._server.proxy_protocol import NotProxied

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from manyhands._future.future import Future
    from manyhands._native import StreamReader, StreamWriter
    from manyhands._server.open_connections import OpenConnections
    from manyhands._server.proxy_protocol import ProxyProtocol

    # Serves one connection to its end; of datagrams, one of these: its bytes, and who has sent it.
    ServeStreams: TypeAlias = Callable[[Any, Any], Awaitable[object]]
    # Returns what handles the messages of a client.
    MessagesOf: TypeAlias = Callable[[Any], Callable[[bytes], object]]

__all__ = ["LoopService", "ServedLoop"]

# So that asyncio makes tasks of what our readers and writers return.
Coroutine.register(_native.StreamWait)

logger = logging.getLogger("manyhands.server")


class LoopService(NamedTuple):
    """What event loops do with each connection."""

    serve: ServeStreams
    # Plain functions of messages are called without a coroutine: what they have, and the framing.
    messages_of: MessagesOf | None
    framing: str | None
    # How long a line or message may be, in bytes.
    limit: int
    proxies: ProxyProtocol | None
    ssl: tls.SSLContext | None
    handshake_timeout: float
    first_byte_timeout: float | None
    connection_timeout: float | None
    # What failed handlers are named after.
    handler: object


class ServedLoop:
    """What one event loop of a server does.

    Args:
        engine: where connections come from.
        service: what is done with each.
        connections: what has become of them.
    """

    def __init__(
        self, engine: _native.LoopEngine, service: LoopService, connections: OpenConnections
    ) -> None:
        self._engine = engine
        self._service = service
        self._open = connections
        # Whether something comes before the client's words for the handler.
        self._greets = service.ssl is not None or service.proxies is not None
        self._loop: Any = None
        self._room: _native.ServerLoop | None = None
        self._over: asyncio.Event | None = None
        # Of handlers that are under way.
        self._tasks: dict[object, asyncio.Task[None]] = {}
        self._begun = threading.Event()
        # The number of its thread, once it serves.
        self.thread = 0
        # Whether this is the child of a fork that a handler has made, and the task that forks now.
        self._is_forked = False
        self._forking: asyncio.Task[Any] | None = None
        served.add(self)

    # From other threads.

    def await_begin(self, serving: Future[None]) -> None:
        """Wait until it serves. Raises what keeps it from that."""
        serving.add_done_callback(lambda _: self._begun.set())
        self._begun.wait()
        if self._room is None:
            serving.result()

    def end_connections(self, only_idle: bool) -> None:
        """End connections whose handlers wait for another request, or all."""
        room = self._room
        if room is None:
            return
        if self._service.ssl is None:
            room.end_connections(only_idle)
        else:
            # What TLS has to say at the end, it must say in the loop's thread.
            self._call(self._end_connections, only_idle)

    def stop(self) -> None:
        """Have `serve` return: handlers that are still under way are cancelled."""
        if self._over is not None:
            self._call(self._over.set)

    def _call(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # the loop has ended

    # In the loop's own.

    async def serve(self) -> None:
        """Serve until `stop` is called."""
        self._over = asyncio.Event()
        loop = self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        service = self._service
        begin = self._begin
        if service.messages_of is not None and not self._greets and not service.first_byte_timeout:
            begin = self._begin_messages
        room = self._engine.join(loop, begin, service.limit)
        loop.add_reader(room.fileno(), room.dispatch)
        self._room = room
        self._begun.set()
        try:
            await self._over.wait()
        finally:
            loop.remove_reader(room.fileno())
            room.close()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            # It refers to this in turn, which no collector sees.
            self._room = self._forking = None

    def _end_connections(self, only_idle: bool) -> None:
        if self._room is not None:
            self._room.end_connections(only_idle)

    def _begin(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        # Eager ones may have ended already.
        if not task.done():
            self._tasks[writer] = task

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection, whatever happens."""
        timer = self._timer(writer)
        try:
            if not self._greets or await self._greeted(reader, writer):
                await self._handle(reader, writer)
            writer.close()
            # It is open, and counts, until the client has taken all.
            await writer.wait_closed()
        finally:
            if timer is not None:
                timer.cancel()
            writer.close()
            self._tasks.pop(writer, None)
            self._leave()

    async def _greeted(self, reader: StreamReader, writer: StreamWriter) -> bool:
        """Have a client introduced by its proxy, and shake hands with it; return False if not."""
        service = self._service
        deadline = self._loop.time() + service.handshake_timeout
        try:
            if service.proxies is not None:
                await service.proxies.introduce(reader, writer, service.handshake_timeout)
            if service.ssl is not None:
                async with asyncio.timeout_at(deadline):
                    await writer.start_tls(service.ssl)
        except NotProxied as error:
            log_unproxied(self._open, writer.get_extra_info("peername"), error)
            return False
        except OSError as error:
            self._open.count("disconnected")
            address = writer.get_extra_info("peername")
            logger.debug("the TLS handshake of the client at %s has failed: %s", address, error)
            return False
        return True

    async def _handle(self, reader: StreamReader, writer: StreamWriter) -> None:
        service = self._service
        try:
            if service.first_byte_timeout is None or await self._says_something(reader):
                if service.messages_of is None:
                    await service.serve(reader, writer)
                else:
                    self._serve_messages(reader, writer, lambda: None)
                    await writer.wait_closed()
        except BaseException as error:
            self._end_if_forked(error)
            if not isinstance(error, Exception):
                raise
            self._failed(error, writer)
        else:
            self._end_if_forked(None)

    # Around a fork that is made in the loop's thread.

    def note_who_forks(self) -> None:
        """Remember whose handler it is: in its child asyncio has forgotten that."""
        if self._runs_here():
            self._forking = asyncio.current_task(self._loop)

    def leave_to_parent(self) -> None:
        """Do nothing more than let the handler have its child, until it returns or waits."""
        if not self._runs_here():
            return
        assert self._room is not None
        self._is_forked = True
        has_forked = (writer for writer, task in self._tasks.items() if task is self._forking)
        writer: Any = next(has_forked, None)
        self._room.leave_to_parent(writer if isinstance(writer, _native.StreamWriter) else None)
        self._loop.call_soon(end_process, None)

    def _runs_here(self) -> bool:
        return self.thread == threading.get_ident() and self._room is not None

    def _end_if_forked(self, error: BaseException | None) -> None:
        if self._is_forked:
            end_process(error)

    def _leave(self) -> None:
        assert self._room is not None
        self._room.leave()

    async def _says_something(self, reader: StreamReader) -> bool:
        """Wait for a client's first byte, which stays there."""
        try:
            async with asyncio.timeout(self._service.first_byte_timeout):
                await reader.wait_readable()
        except TimeoutError:
            self._open.count("timed_out")
            return False
        return True

    def _timer(self, writer: StreamWriter) -> asyncio.TimerHandle | None:
        """Have a connection ended when its time is over; return what to cancel, if anything."""
        seconds = self._service.connection_timeout
        if seconds is None:
            return None
        timer: asyncio.TimerHandle = self._loop.call_later(seconds, self._end_late, writer)
        return timer

    def _end_late(self, writer: StreamWriter) -> None:
        self._open.count("timed_out")
        writer.abort()

    def _failed(self, error: Exception, writer: StreamWriter) -> None:
        gone = isinstance(error, ConnectionError | asyncio.IncompleteReadError)
        address = writer.get_extra_info("peername")
        if gone and writer.has_lost_client():
            self._open.count("disconnected")
            logger.debug("the client at %s has gone: %s", address, error)
            return
        log_failure(self._open, self._service.handler, address, error)

    # Messages that plain functions handle.

    def _begin_messages(self, reader: StreamReader, writer: StreamWriter) -> None:
        timer = self._timer(writer)

        def leave() -> None:
            if timer is not None:
                timer.cancel()
            self._leave()

        self._serve_messages(reader, writer, leave)

    def _serve_messages(
        self, reader: StreamReader, writer: StreamWriter, on_closed: Callable[[], None]
    ) -> None:
        service = self._service
        assert service.messages_of is not None
        assert service.framing is not None

        def fail(error: Exception) -> None:
            self._failed(error, writer)

        handler = service.messages_of(writer.get_extra_info("peername"))
        reader.serve_messages(service.framing, handler, fail, on_closed, copy_context())


def _note_who_forks() -> None:
    for each in served:
        each.note_who_forks()


def _leave_to_parent() -> None:
    for each in served:
        each.leave_to_parent()


served: Living[ServedLoop] = Living()
os.register_at_fork(before=_note_who_forks, after_in_child=_leave_to_parent)
