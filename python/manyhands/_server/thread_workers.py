"""The threads of a server: each serves one connection after the other."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from manyhands._server.stream_socket import StreamSocket

if TYPE_CHECKING:
    import ssl as tls

    from manyhands import _native
    from manyhands._server.handler import Serve
    from manyhands._server.open_connections import OpenConnections

logger = logging.getLogger("manyhands.server")


class HandshakeFailed(Exception):
    """A client has not finished its TLS handshake, or not in time."""


class Service(NamedTuple):
    """What is done with each connection."""

    serve: Serve
    ssl: tls.SSLContext | None
    handshake_timeout: float
    first_byte_timeout: float | None
    # What handlers get as their server.
    server: Any


class ThreadWorkers:
    """Threads that take connections from an engine."""

    def __init__(self, service: Service, connections: OpenConnections, place: str) -> None:
        self._service = service
        self._open = connections
        self._place = place
        self._numbers = count()
        # Thread number -> its half of the engine.
        self._threads: dict[int, _native.ServerWorker] = {}
        self._reported: set[tuple[int, float]] = set()
        # Of the process that runs them; the server may have been made in another.
        self._pid = 0

    def is_one_of_them(self) -> bool:
        """Tell whether the calling thread is a worker."""
        return threading.get_ident() in self._threads

    def start(self, engine: _native.ServerEngine, missing: int) -> None:
        """Start so many threads, or as many as there can be."""
        self._pid = os.getpid()
        for left in range(missing, 0, -1):
            name = f"mh-server-{self._place}-{next(self._numbers)}"
            worker = engine.worker()
            thread = threading.Thread(target=self._work, args=(worker,), name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                worker.leave()
                engine.not_started(left - 1)
                logger.warning("%d threads of %s cannot be started: %s", left, self._place, error)
                # Nobody would come for what is queued; the others, if there are any, will.
                time.sleep(0.01)
                return

    def report_stuck(self, seconds: float) -> None:
        """Report handlers that have neither waited nor returned for so long, once each."""
        for ident, worker in list(self._threads.items()):
            busy = worker.busy_since()
            if busy is None or time.monotonic() - busy < seconds or (ident, busy) in self._reported:
                continue
            if self._service.ssl is not None and seconds > 0:
                continue  # whether it waits for its client, nobody but OpenSSL knows
            import traceback

            frame = sys._current_frames().get(ident)
            if frame is None:
                continue
            self._reported = {known for known in self._reported if known[0] in self._threads} | {
                (ident, busy)
            }
            self._open.count("stuck")
            stack = "".join(traceback.format_stack(frame))
            logger.warning(
                "a handler at %s has neither waited for its client nor returned for %.1f s; "
                "it is here:\n%s",
                self._place,
                time.monotonic() - busy,
                stack,
            )

    def _work(self, worker: _native.ServerWorker) -> None:
        """Serve connections until there will be no more."""
        ident = threading.get_ident()
        listening = self._service.server.socket
        family, kind = listening.family, listening.type
        self._threads[ident] = worker
        try:
            while (taken := worker.take()) is not None:
                fd, address, calls = taken
                del taken
                try:
                    connection: socket.socket = StreamSocket(family, kind, 0, fd, calls)
                except OSError as error:
                    logger.warning("a connection of %s cannot be served: %s", address, error)
                    continue
                del calls
                try:
                    self._serve(ident, connection, address)
                finally:
                    if self._is_forked():
                        _end_process(sys.exc_info()[1])
                    self._open.finish(ident)
                    connection.close()
                del connection
        finally:
            self._threads.pop(ident, None)
            # Not when it is collected: a traceback may keep it for long.
            worker.leave()

    def _serve(self, ident: int, connection: socket.socket, address: Any) -> None:
        """Serve one connection, whatever happens."""
        service = self._service
        self._open.begin(ident, connection)
        try:
            if service.ssl is not None:
                connection = self._with_tls(connection)
                self._open.replace(ident, connection)
            if service.first_byte_timeout is not None and not _says_something(connection, service):
                self._open.count("timed_out")
                return
            service.serve(connection, address, service.server)
            if service.ssl is not None and not self._is_forked():
                _say_that_it_is_all(connection)
        except Exception as error:
            self._failed(error, connection, address)
        finally:
            if not self._is_forked():
                # A file that was made of it, and is kept by a traceback, holds up its being closed.
                _say_goodbye(connection)
            if service.ssl is not None:
                connection.close()

    def _is_forked(self) -> bool:
        """Tell whether a handler has forked, and this is its child."""
        return os.getpid() != self._pid

    def _failed(self, error: Exception, connection: socket.socket, address: Any) -> None:
        """Say what went wrong with a connection, unless it is the client that has gone."""
        if isinstance(error, HandshakeFailed) or (_is_of_an_end(error) and _has_gone(connection)):
            self._open.count("disconnected")
            logger.debug("the client at %s has gone: %s", address, error)
            return
        self._open.count("timed_out" if isinstance(error, TimeoutError) else "failed")
        handler = self._service.server.RequestHandlerClass
        name = getattr(handler, "__qualname__", handler)
        logger.error("handler %s failed for the client at %s", name, address, exc_info=error)

    def _with_tls(self, connection: socket.socket) -> socket.socket:
        """Make the handshake of a client that has to finish it in time."""
        service = self._service
        assert service.ssl is not None
        connection.settimeout(service.handshake_timeout)
        wrapped = service.ssl.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        try:
            wrapped.do_handshake()
        except OSError as error:
            wrapped.close()
            raise HandshakeFailed(f"the TLS handshake has failed: {error}") from error
        except BaseException:
            wrapped.close()
            raise
        wrapped.settimeout(None)
        return wrapped


def _says_something(connection: socket.socket, service: Service) -> bool:
    """Wait for a client's first byte, which stays there."""
    connection.settimeout(service.first_byte_timeout)
    try:
        if service.ssl is None:
            connection.recv(1, socket.MSG_PEEK)
        elif not connection.pending():  # type: ignore[attr-defined]
            import select

            poll = select.poll()
            poll.register(connection, select.POLLIN)
            limit = service.first_byte_timeout
            if not poll.poll(None if limit is None else limit * 1000):
                return False
    except TimeoutError:
        return False
    connection.settimeout(None)
    return True


def _is_of_an_end(error: Exception) -> bool:
    """Tell whether it is one that a connection has when it has ended."""
    tls = sys.modules.get("ssl")
    return isinstance(error, ConnectionError) or (
        tls is not None and isinstance(error, tls.SSLEOFError | tls.SSLZeroReturnError)
    )


def _has_gone(connection: socket.socket) -> bool:
    """Tell whether it is this connection that is broken, and not another of the handler's."""
    import select

    if connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(0))


def _end_process(error: BaseException | None) -> None:
    """End a child that a handler has forked and let go: nothing here is its to serve."""
    status: object = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code or 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # there is none, or nobody reads it
    os._exit(status if isinstance(status, int) else 1)


def _say_that_it_is_all(connection: socket.socket) -> None:
    """Tell a client by TLS that what it has got was not cut off; do not wait for its answer."""
    try:
        connection.setblocking(False)
        connection.unwrap()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        pass  # it has been told, or the connection is closed


def _say_goodbye(connection: socket.socket) -> None:
    """Tell the client that nothing more will come, as `socketserver` does."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has gone, or the handler has closed it
