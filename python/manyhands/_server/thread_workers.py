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

from manyhands._server.failure import log_failure, log_unproxied
from manyhands._server.forked_child import end_process
from manyhands._server.proxy_protocol import NotProxied
from manyhands._server.stream_socket import StreamSocket

if TYPE_CHECKING:
    import ssl as tls
    from concurrent.futures import Executor

    from manyhands import _native
    from manyhands._server.handler import Serve
    from manyhands._server.open_connections import OpenConnections
    from manyhands._server.proxy_protocol import ProxyProtocol

logger = logging.getLogger("manyhands.server")


class HandshakeFailed(Exception):
    """A client has not finished its TLS handshake, or not in time."""


class Service(NamedTuple):
    """What is done with each connection."""

    serve: Serve
    proxies: ProxyProtocol | None
    ssl: tls.SSLContext | None
    handshake_timeout: float
    first_byte_timeout: float | None
    # What handlers get as their server.
    server: Any


class ThreadWorkers:
    """Threads that take connections from an engine.

    Args:
        service: what is done with each connection.
        connections: those that are being served.
        executor: in which pool of threads; None: in threads of their own.
    """

    def __init__(
        self, service: Service, connections: OpenConnections, executor: Executor | None
    ) -> None:
        self._service = service
        self._executor = executor
        self._open = connections
        self._place = service.server.server_address
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
        """Start so many threads, or as many as there can be.

        Raises:
            RuntimeError: the executor takes no tasks any more.
        """
        self._pid = os.getpid()
        if self._executor is not None:
            self._borrow(self._executor, engine, missing)
            return
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

    def _borrow(self, executor: Executor, engine: _native.ServerEngine, missing: int) -> None:
        for _ in range(missing):
            # One that is refused, or cancelled before it begins, leaves as it is collected.
            executor.submit(self._work, engine.worker())

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
        self._threads[ident] = worker
        try:
            while (taken := worker.take()) is not None:
                self._handle(ident, *taken)
                del taken
        finally:
            self._threads.pop(ident, None)
            # Not when it is collected: a traceback may keep it for long.
            worker.leave()

    def _handle(
        self, ident: int, taken: Any, address: Any, calls: _native.StreamCalls | None
    ) -> None:
        """Handle what was taken: the descriptor of a connection."""
        listening = self._service.server.socket
        try:
            connection = StreamSocket(listening.family, listening.type, 0, taken, calls)
        except OSError as error:
            logger.warning("a connection of %s cannot be served: %s", address, error)
            return
        try:
            self._serve(ident, connection, address)
        finally:
            self._end_if_forked()
            self._open.finish(ident)
            connection.close()

    def _serve(self, ident: int, accepted: StreamSocket, address: Any) -> None:
        """Serve one connection, whatever happens."""
        service = self._service
        connection: socket.socket = accepted
        self._open.begin(ident, connection)
        # Of all that comes before the client's own words.
        deadline = time.monotonic() + service.handshake_timeout
        try:
            if service.proxies is not None:
                accepted.settimeout(service.handshake_timeout)
                address = service.proxies.client(accepted, address)
                accepted.settimeout(socket.getdefaulttimeout())
            if service.ssl is not None:
                connection = self._with_tls(connection, deadline)
                self._open.replace(ident, connection)
            if service.first_byte_timeout is not None and not _says_something(connection, service):
                self._open.count("timed_out")
                return
            service.serve(connection, address, service.server)
            if service.ssl is not None and not self._is_forked():
                say_that_it_is_all(connection)
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

    def _end_if_forked(self) -> None:
        """End the child that a handler has forked and let go: nothing here is its to serve."""
        if self._is_forked():
            end_process(sys.exc_info()[1])

    def _failed(self, error: Exception, connection: socket.socket, address: Any) -> None:
        """Say what went wrong with a connection, unless it is the client that has gone."""
        if isinstance(error, NotProxied):
            log_unproxied(self._open, address, error)
            return
        if isinstance(error, HandshakeFailed) or (_is_of_an_end(error) and _has_gone(connection)):
            self._open.count("disconnected")
            logger.debug("the client at %s has gone: %s", address, error)
            return
        if self._is_forked():
            return  # its end says so, and it is not counted twice
        log_failure(self._open, self._service.server.RequestHandlerClass, address, error)

    def _with_tls(self, connection: socket.socket, deadline: float) -> socket.socket:
        """Make the handshake of a client that has to finish it in time."""
        service = self._service
        assert service.ssl is not None
        connection.settimeout(max(0.001, deadline - time.monotonic()))
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


def say_that_it_is_all(connection: socket.socket) -> None:
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
