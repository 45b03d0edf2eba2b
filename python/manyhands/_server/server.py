"""A server: an address, a handler, and workers that run it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from manyhands._server.counts import NOTHING, lasting, with_past
from manyhands._server.handler import serve_with
from manyhands._server.listener import Listener
from manyhands._server.open_connections import OpenConnections
from manyhands._server.thread_crew import ThreadCrew
from manyhands._server.thread_workers import Service, ThreadWorkers

if TYPE_CHECKING:
    import socket
    import ssl as tls
    from collections.abc import Callable
    from typing import Self

    from manyhands._server.listener import Address
    from manyhands._server.process_crew import ProcessCrew

__all__ = ["Server"]


class Server:
    """Serves the clients that connect to an address, each with a call of `handler` in a worker.

    Connections are taken off the listener by a thread that never holds the interpreter, wait in
    one queue, and go to the worker that is free first. Three numbers bound what there can be, and
    connections beyond them wait in the listener's queue, which is the kernel's.

    Args:
        address: ``(host, port)``, ``"host:port"``, ``"unix:path"``, ``"fd:3"`` for an inherited
            socket, or a socket that listens. Port 0 is any that is free: see `server_address`.
        handler: a subclass of `socketserver.BaseRequestHandler`, or a function that is called
            with the socket of the connection. The server closes the socket, whatever happens.
        workers: ``"thread"``, or ``"process"`` for processes with threads each: for handlers that
            compute. The handler, and what else a process needs, is pickled, as for an executor.
        max_workers: how many threads there may be, so how many connections are served at a time;
            None means 64. They are started as they are needed, and used again. Of processes: how
            many there are; None means one for each CPU. One that dies is replaced.
        threads_per_process: how many connections each process serves at a time.
        max_connections: how many connections may be open, served or queued. None: 4,096, or a
            quarter less than the limit of open files allows, if that is fewer.
        max_active: how many connections may be served at a time; None: as many as workers.
        max_queue: how many connections may wait for a thread; None: as many as may be open.
        overflow: what becomes of a connection that finds the queue full: ``"wait"`` leaves it
            with the kernel, ``"reject"`` closes it, and a function is called with its socket
            and address, to say something short, before it is closed.
        ssl: the context for TLS; for processes a function that makes it, since contexts cannot be
            pickled. The handshake is made by the worker, so a client that does not finish it holds
            up nobody else.
        handshake_timeout: how many seconds a TLS handshake may take.
        first_byte_timeout: how many seconds a client may say nothing after it has connected, before
            its handler has been called. None calls the handler at once.
        connection_timeout: after how many seconds a connection is ended, whatever it does: reads
            find its end. None: never.
        stuck_after: a handler that has neither waited for its client nor returned for so many
            seconds is reported, with the stack of its thread, and goes on. None: never.
        grace: how many seconds `shutdown` gives to handlers before it ends their connections.

    Example:
        >>> from manyhands.server import Server, StreamRequestHandler
        >>> class Upper(StreamRequestHandler):
        ...     def handle(self):
        ...         for line in self.rfile:
        ...             self.wfile.write(line.upper())
        >>> with Server(("127.0.0.1", 9000), Upper) as server:  # doctest: +SKIP
        ...     server.serve_forever()

    Raises:
        OSError: the address cannot be had; the text says who has it.
        TypeError: the handler does not fit the workers; the text says which would.
    """

    # The process that serves.
    _served_by = 0
    # Whether this is one of the processes of a server.
    _shared = False

    def __init__(
        self,
        address: Address,
        handler: Callable[..., object],
        *,
        workers: Literal["thread", "process"] = "thread",
        max_workers: int | None = None,
        threads_per_process: int = 64,
        max_connections: int | None = None,
        max_active: int | None = None,
        max_queue: int | None = None,
        overflow: Literal["wait", "reject"] | Callable[[socket.socket, Any], object] = "wait",
        ssl: tls.SSLContext | Callable[[], tls.SSLContext] | None = None,
        handshake_timeout: float = 10.0,
        first_byte_timeout: float | None = None,
        connection_timeout: float | None = None,
        stuck_after: float | None = 60.0,
        grace: float = 5.0,
    ) -> None:
        _check_words(workers, max_queue, overflow)
        processes = workers == "process"
        most = (os.cpu_count() or 1) if processes else 64
        self.max_workers = _count("max_workers", max_workers, most)
        threads = _count("threads_per_process", threads_per_process, 64)
        served = self.max_workers * threads if processes else self.max_workers
        self.max_connections = _count("max_connections", max_connections, _most_connections())
        self.max_active = _count("max_active", max_active, served)
        self.max_queue = _count("max_queue", max_queue, self.max_connections, least=0)
        self.grace = _seconds("grace", grace, 0.0)
        self._stuck_after = _seconds("stuck_after", stuck_after, 0.0) if stuck_after else None
        self._overflow = overflow
        self.RequestHandlerClass = handler
        serve = serve_with(handler)
        limits = (
            _seconds("handshake_timeout", handshake_timeout),
            _optional("first_byte_timeout", first_byte_timeout),
        )
        self._open = OpenConnections(_optional("connection_timeout", connection_timeout))
        self._options: dict[str, Any] | None = None
        if processes:
            self._options = {
                "max_workers": threads,
                "max_connections": -(-self.max_connections // self.max_workers),
                "max_active": -(-self.max_active // self.max_workers),
                # What one process had queued, another that is idle could not serve.
                "max_queue": 0,
                "ssl": ssl,
                "handshake_timeout": handshake_timeout,
                "first_byte_timeout": first_byte_timeout,
                "connection_timeout": connection_timeout,
                "stuck_after": stuck_after,
                "grace": grace,
            }
        elif callable(ssl):
            ssl = ssl()
        service = Service(serve, ssl, *limits, server=self)  # type: ignore[arg-type]
        # Last: what was opened would have to be closed if anything else were wrong.
        self._listener = Listener(address)
        self.server_address = self._listener.address
        self.socket = self._listener.socket
        self._workers = ThreadWorkers(service, self._open, f"{self.server_address}")
        self._lock = threading.Lock()
        self._crew: ThreadCrew | ProcessCrew | None = None
        self._serving: threading.Thread | None = None
        # Of the latest run. Each has its own, so that nobody who waits for one waits for the next.
        self._ended = threading.Event()
        self._asked_grace: float | None = None
        self._past: dict[str, int] = {}

    def __repr__(self) -> str:
        state = (
            "closed" if self.socket.fileno() < 0 else "idle" if self._crew is None else "serving"
        )
        return f"<Server at {self.server_address}, {state}, {self._team()}>"

    def _team(self) -> str:
        """Return how many workers of which kind there are, in words."""
        return f"{self.max_workers} {'threads' if self._options is None else 'processes'}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the number of the listening socket; -1 once it is closed."""
        return self.socket.fileno()

    def serve_forever(self) -> None:
        """Serve until `shutdown` is called, then until handlers have ended or their grace is over.

        An exception that a signal's handler raises meanwhile, such as KeyboardInterrupt, ends the
        serving, too, and goes on to the caller once that is over.

        Raises:
            RuntimeError: it is being served already, or closed.
            OSError: nothing can be accepted any more.
        """
        with self._lock:
            if self._crew is not None:
                raise RuntimeError(f"{self!r} is being served already, in {self._serving!r}")
            if self.socket.fileno() < 0:
                raise RuntimeError(f"{self!r} cannot be served any more: make another")
            self._ended = threading.Event()
            self._serving = threading.current_thread()
            self._served_by = os.getpid()
            crew = self._crew = self._new_crew()
        try:
            if self._asked_grace is None:
                crew.attend(lambda: self._asked_grace is not None)
        finally:
            try:
                grace = self.grace if self._asked_grace is None else self._asked_grace
                crew.drain(grace, lambda: self._asked_grace)
            finally:
                with self._lock:
                    self._past = with_past(lasting(crew.counts()), self._past)
                    self._crew = self._serving = self._asked_grace = None
                    self._ended.set()

    def _new_crew(self) -> ThreadCrew | ProcessCrew:
        """Return what serves for one run."""
        if self._options is not None:
            from manyhands._server.process_crew import ProcessCrew

            return ProcessCrew(
                self.socket,
                self.max_workers,
                self.RequestHandlerClass,
                self._options,
                f"the server at {self.server_address}",
                self._is_ready,
                self.shutdown,
            )
        limits = {
            "connections": self.max_connections,
            "active": self.max_active,
            "queued": self.max_queue,
            "workers": self.max_workers,
            "reject": self._overflow != "wait",
            "shared": self._shared,
        }
        return ThreadCrew(
            self.socket,
            self._workers,
            self._open,
            limits,
            self._overflow,
            self._stuck_after,
            self,
            self._is_ready,
        )

    def shutdown(self, grace: float | None = None) -> None:
        """End `serve_forever`, and wait until it has ended.

        Accepting ends at once, idle connections are closed at once, and handlers have `grace`
        seconds (None: what the server was made with) before their connections are ended. It may
        be called from anywhere, and more than once; called from a handler, a signal's handler or
        the serving thread, it does not wait. If nobody serves, the next `serve_forever` returns
        at once. In a process that was forked meanwhile it does nothing: it is served elsewhere.
        """
        wished = self.grace if grace is None else check_grace(grace)
        if self._crew is not None and self._served_by != os.getpid():
            return
        # No lock: a signal's handler may run while this very thread holds it.
        ended = self._ended
        earlier = self._asked_grace
        self._asked_grace = wished if earlier is None else min(earlier, wished)
        crew = self._crew
        if crew is None:
            return
        crew.ask()
        self._wait_for_the_end(ended)

    def _wait_for_the_end(self, ended: threading.Event) -> None:
        """Wait for the end of a run, where that does not wait for the caller."""
        if threading.current_thread() is not self._serving and not self._workers.is_one_of_them():
            ended.wait()

    def reload(self) -> None:
        """Have new processes take over: they import the handler's module as it is now.

        Each is ready before one of the old ends, which has its `grace` for what it serves. If a
        new one cannot start, the old ones go on, and the error is logged.

        Raises:
            RuntimeError: it is not being served by processes.
        """
        crew = self._crew
        if crew is None or isinstance(crew, ThreadCrew):
            raise RuntimeError(f"{self!r} cannot be reloaded: no processes serve it")
        crew.reload()

    def _is_ready(self) -> None:
        """Note that clients are served from now on; derived classes may say so."""

    def close(self) -> None:
        """End the serving, if there is any, and stop listening.

        Clients that have not been accepted by then are refused by the kernel.
        """
        if self._crew is not None:
            self.shutdown()
        self._listener.close()

    server_close = close

    def statistics(self) -> dict[str, Any]:
        """Return what has happened since the server was made, and what is happening.

        Keys: ``accepted``, ``refused`` (the queue was full), ``served``, ``dropped`` (queued when
        the server ended), ``failed`` (their handler raised), ``disconnected`` (their client went
        away), ``timed_out``, ``stuck`` (reported handlers); and for now ``queued``, ``active``,
        ``busiest`` (the most that were active at a time), ``workers``, ``idle``. A server of
        processes adds theirs up, and has ``processes``, and ``replaced``: how many have died.
        """
        with self._lock:
            crew = self._crew
            counted = {} if crew is None else crew.counts()
            numbers = with_past(NOTHING | counted, self._past)
        if self._options is not None:
            return dict.fromkeys(self._open.counts(), 0) | numbers
        return numbers | self._open.counts()


def _check_words(workers: object, max_queue: object, overflow: object) -> None:
    """Refuse words that are none, and those that do not go together."""
    if workers not in ("thread", "process"):
        raise ValueError(f"workers={workers!r} must be 'thread' or 'process'")
    if not callable(overflow) and overflow not in ("wait", "reject"):
        raise ValueError(f"overflow={overflow!r} must be 'wait', 'reject' or a function")
    if workers == "process" and (max_queue is not None or overflow != "wait"):
        raise ValueError(
            "max_queue and overflow are for threads: clients of processes wait in the "
            "listener's queue until one of them is free"
        )


def _most_connections() -> int:
    """Return how many connections this process can have open, and some files besides."""
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = 4096 if soft == resource.RLIM_INFINITY else min(4096, soft * 3 // 4)
    return max(1, room)


def _count(name: str, value: int | None, default: int, least: int = 1) -> int:
    if value is None:
        return default
    try:
        number = value.__index__()
    except AttributeError:
        raise TypeError(f"{name}={value!r} must be a whole number or None") from None
    if number < least:
        raise ValueError(f"{name}={value!r} must be at least {least}")
    return number


def _seconds(name: str, value: float, least: float | None = None) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number of seconds")
    low = value < least if least is not None else value <= 0
    if low or value != value:  # NaN
        raise ValueError(
            f"{name}={value!r} must be {'at least 0' if least is not None else 'above 0'} seconds"
        )
    return float(value)


def check_grace(grace: float | None) -> float:
    """Return the seconds that handlers are given; 0 for None.

    Raises:
        ValueError: that is no time.
        TypeError: that is no number.
    """
    return 0.0 if grace is None else _seconds("grace", grace, 0.0)


def _optional(name: str, value: float | None) -> float | None:
    return None if value is None else _seconds(name, value)
