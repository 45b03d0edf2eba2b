"""A server: an address, a handler, and workers that run it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from manyhands import _native
from manyhands._server.beat import BEAT_S, is_fresh
from manyhands._server.counts import NOTHING, lasting, with_past
from manyhands._server.datagram_workers import DatagramWorkers
from manyhands._server.listener import Listener, is_of_datagrams
from manyhands._server.open_connections import OpenConnections
from manyhands._server.options import check_grace
from manyhands._server.settings import Settings
from manyhands._server.thread_crew import ThreadCrew
from manyhands._server.thread_workers import Service, ThreadWorkers

if TYPE_CHECKING:
    import socket
    import ssl as tls
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from typing import Self

    from manyhands._server.listener import Address
    from manyhands._server.loop_crew import LoopCrew
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
            For datagrams ``"udp:host:port"``, ``"udp:unix:path"``, or a socket of that kind.
        handler: a subclass of `socketserver.BaseRequestHandler`; a function that is called
            with the socket of the connection; for event loops an ``async def`` function that is
            called with a reader and a writer, as asyncio has them; or, with a `framing`, a function
            that is called with each message, and with the client's address if it takes two
            arguments, and returns a reply or None. The server closes the connection, whatever
            happens. A function for datagrams, ``async def`` in event loops, is called with the
            bytes of each and the address of its sender, and returns a reply or None.
        workers: ``"thread"``; ``"coroutine"`` for event loops, which serve thousands of connections
            that mostly wait; ``"greenlet"`` for event loops, too, in which handlers that threads
            would run wait by switching; or ``"process"`` for processes with threads, or an event
            loop if the handler is ``async def``, each: for handlers that compute. The handler, and
            what else a process needs, is pickled, as for an executor. Or an executor of threads,
            coroutines or greenlets, in which handlers run beside its other tasks: its limits hold,
            and it is not shut down.
        framing: how a stream is taken apart into messages, and replies are sent: ``"lines"`` that
            end with a line feed, which is no part of the message; ``"u32"``, the length of each in
            four bytes before it, the highest first; ``"raw"``, what has come together.
        limit: how many bytes a message, or a line that a coroutine reads, may have.
        max_workers: how many threads there may be, so how many connections are served at a time;
            None means 64. They are started as they are needed, and used again. Of processes: how
            many there are; None means one for each CPU. One that dies is replaced. Of event loops:
            how many there are; None means one.
        threads_per_process: how many connections each process serves at a time.
        loop_factory: makes an event loop, such as ``uvloop.new_event_loop``; None for asyncio's.
        max_connections: how many connections may be open, served or queued. None: 4,096, or a
            quarter less than the limit of open files allows, if that is fewer.
        max_active: how many connections may be served at a time; None: as many as threads, or as
            may be open for event loops.
        max_queue: how many connections may wait for a thread; None: as many as may be open.
        overflow: what becomes of a connection that finds the queue full: ``"wait"`` leaves it
            with the kernel, ``"reject"`` closes it, and a function is called with its socket
            and address, to say something short, before it is closed. A datagram that is rejected
            is dropped.
        max_packet_size: how many bytes a datagram may have; longer ones are dropped.
        proxy_protocol: the proxies that say for whom they connect, by the PROXY protocol, version 1
            or 2: ``"10.0.0.0/8,unix"``, or a list of addresses and networks, with ``"unix"`` for
            whoever connects by a Unix socket and ``"*"`` for everybody. Handlers get the address of
            the proxy's client. Connections of others, or without a header, are closed. None: it is
            not spoken.
        ssl: the context for TLS; for processes a function that makes it, since contexts cannot be
            pickled. The handshake is made by the worker, so a client that does not finish it holds
            up nobody else.
        handshake_timeout: how many seconds a PROXY header and a TLS handshake may take together.
        first_byte_timeout: how many seconds a client may say nothing after it has connected, before
            its handler has been called. None calls the handler at once.
        connection_timeout: after how many seconds a connection is ended, whatever it does: reads
            find its end. None: never.
        stuck_after: a handler that has neither waited for its client nor returned for so many
            seconds is reported, with the stack of its thread, and goes on. None: never. Of event
            loops, which it would hold up, after a tenth of a second at the latest.
        grace: how many seconds `shutdown` gives to handlers before it ends their connections.
        start_timeout: a process that is not ready after so many seconds, since what it imports
            hangs, is killed, and counts as one that cannot start.
        metrics: where to answer over HTTP (``/metrics`` for Prometheus, ``/statistics`` as JSON,
            ``/healthz``): an address as above, or a port of 127.0.0.1. A Unix socket is for this
            user only. None: nowhere.

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
    _settings_class = Settings
    # How often, in seconds, it is made sure that it answers, and the service manager that is told.
    _beat_s: float | None = None
    _manager: str | None = None
    # While it is served: what does it, in which thread, where it is counted, who answers for it.
    _crew: ThreadCrew | LoopCrew | ProcessCrew | None = None
    _serving: threading.Thread | None = None
    _ledger: _native.ServerLedger | None = None
    _telling: threading.Thread | None = None
    _threads: ThreadWorkers | None = None
    _asked_grace: float | None = None
    # What earlier runs have counted.
    _past: Mapping[str, int] = NOTHING

    def __init__(
        self,
        address: Address,
        handler: Callable[..., object],
        *,
        workers: Literal["thread", "process", "coroutine", "greenlet"] | Executor = "thread",
        framing: Literal["lines", "u32", "raw"] | None = None,
        limit: int = 1 << 16,
        max_workers: int | None = None,
        threads_per_process: int = 64,
        max_connections: int | None = None,
        max_active: int | None = None,
        max_queue: int | None = None,
        overflow: Literal["wait", "reject"] | Callable[[socket.socket, Any], object] = "wait",
        max_packet_size: int = 8192,
        proxy_protocol: str | Iterable[object] | None = None,
        ssl: tls.SSLContext | Callable[[], tls.SSLContext] | None = None,
        handshake_timeout: float = 10.0,
        first_byte_timeout: float | None = None,
        connection_timeout: float | None = None,
        stuck_after: float | None = 60.0,
        grace: float = 5.0,
        start_timeout: float = 60.0,
        metrics: Address | int | None = None,
        loop_factory: Callable[[], AbstractEventLoop] | None = None,
    ) -> None:
        settings = self._settings = self._settings_class(
            handler,
            is_of_datagrams=is_of_datagrams(address),
            workers=workers,
            framing=framing,
            limit=limit,
            max_workers=max_workers,
            threads_per_process=threads_per_process,
            max_connections=max_connections,
            max_active=max_active,
            max_queue=max_queue,
            overflow=overflow,
            max_packet_size=max_packet_size,
            proxy_protocol=proxy_protocol,
            ssl=ssl,
            handshake_timeout=handshake_timeout,
            first_byte_timeout=first_byte_timeout,
            connection_timeout=connection_timeout,
            stuck_after=stuck_after,
            grace=grace,
            start_timeout=start_timeout,
            loop_factory=loop_factory,
        )
        self.max_workers = settings.max_workers
        self.max_connections = settings.max_connections
        self.max_active = settings.max_active
        self.max_queue = settings.max_queue
        self.grace = settings.grace
        self.RequestHandlerClass = handler
        self._open = OpenConnections(settings.connection_timeout)
        service = self._service = None if settings.is_of_processes else settings.service(self)
        # Last: what was opened would have to be closed if anything else were wrong.
        self._listener = address if isinstance(address, Listener) else Listener(address)
        self.server_address = self._listener.address
        self.socket = self._listener.socket
        if isinstance(service, Service):
            threads_of = DatagramWorkers if settings.is_of_datagrams else ThreadWorkers
            self._threads = threads_of(service, self._open, settings.executor)
        self._lock = threading.Lock()
        # Of the latest run. Each has its own, so that nobody who waits for one waits for the next.
        self._ended = threading.Event()
        # What the latest run counts.
        self._counts: Callable[[], dict[str, int]] = NOTHING.copy
        self._metrics = None if metrics is None else self._made_metrics(metrics)

    def __repr__(self) -> str:
        state = (
            "closed" if self.socket.fileno() < 0 else "idle" if self._crew is None else "serving"
        )
        return f"<Server at {self.server_address}, {state}, {self._settings.team()}>"

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
            self._past = with_past(lasting(self._counts()), self._past)
            self._ledger = self._open.ledger = self._new_ledger()
            crew = self._crew = self._new_crew(self._ledger)
            self._counts = crew.counts
        try:
            if self._asked_grace is None:
                self._serve_metrics()
                crew.attend(lambda: self._asked_grace is not None)
        finally:
            try:
                grace = self.grace if self._asked_grace is None else self._asked_grace
                crew.drain(grace, lambda: self._asked_grace)
            finally:
                self._end_metrics()
                with self._lock:
                    # Whoever keeps this server, as a traceback may, keeps no descriptor.
                    crew.counts()  # so that all that it knows is in the ledger
                    self._counts = self._ledger.counts
                    self._ledger.hide()
                    self._crew = self._serving = self._asked_grace = None
                    self._ended.set()

    def _new_ledger(self) -> _native.ServerLedger:
        """Return where one run counts what happens."""
        return _native.ServerLedger(self._shown(), self._settings.workers, 0)

    def _new_crew(self, ledger: _native.ServerLedger) -> ThreadCrew | LoopCrew | ProcessCrew:
        """Return what serves for one run."""
        settings = self._settings
        if settings.is_of_processes:
            from manyhands._server.process_crew import ProcessCrew

            return ProcessCrew(
                self.socket,
                self.max_workers,
                self.RequestHandlerClass,
                settings.of_process(),
                settings.program,
                f"the server at {self.server_address}",
                ledger,
                self._is_ready,
                self.shutdown,
                start_timeout=settings.start_timeout,
                beat_s=self._beat_s,
                manager=self._manager,
            )
        limits = settings.limits() | {
            "shared": self._shared,
            "beat_ms": None if self._beat_s is None else max(1, round(1000 * self._beat_s)),
            "manager": self._manager,
        }
        rest = (
            self._open,
            ledger,
            limits,
            settings.overflow,
            settings.stuck_after,
            self,
            self._is_ready,
        )
        if self._threads is not None:
            return ThreadCrew(self.socket, self._threads, *rest)
        from manyhands._server.loop_crew import LoopCrew

        service: Any = self._service
        pool = settings.executor or settings.loop_factory
        return LoopCrew(self.socket, pool, service, *rest)

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
        workers: Any = self._crew if self._threads is None else self._threads
        is_worker = hasattr(workers, "is_one_of_them") and workers.is_one_of_them()
        if threading.current_thread() is not self._serving and not is_worker:
            ended.wait()

    def reload(self) -> None:
        """Have new processes take over: they import the handler's module as it is now.

        Each is ready before one of the old ends, which has its `grace` for what it serves. If a
        new one cannot start, the old ones go on, and the error is logged.

        Raises:
            RuntimeError: it is not being served by processes.
        """
        crew = self._crew
        if crew is None or not self._settings.is_of_processes:
            why = "nobody serves it now"
            if not self._settings.is_of_processes:
                why = (
                    "it is served in this process, which has imported the handler for good; "
                    "restart it, or have workers='process'"
                )
            raise RuntimeError(f"{self!r} cannot be reloaded: {why}")
        crew.reload()  # type: ignore[union-attr] # processes have options

    def _is_ready(self, trouble: str | None = None) -> None:
        """Note that clients are served; derived classes may say so.

        Args:
            trouble: why those serve that did before, when others should have taken over.
        """

    def close(self) -> None:
        """End the serving, if there is any, and stop listening.

        Clients that have not been accepted by then are refused by the kernel.
        """
        if self._crew is not None:
            self.shutdown()
        self._listener.close()
        if self._metrics is not None:
            self._metrics.close()

    server_close = close

    def statistics(self) -> dict[str, int]:
        """Return what has happened since the server was made, and what is happening.

        Keys: ``accepted``, ``refused`` (the queue was full, or a datagram too long), ``served``,
        ``dropped`` (queued when the server ended), ``failed`` (their handler raised),
        ``disconnected`` (their client went away), ``timed_out``, ``stuck`` (reported handlers),
        ``unproxied`` (they had no PROXY header of a trusted proxy), ``requests`` (that a web
        application has answered); and for now ``queued``, ``active``, ``busiest`` (the most that
        were active at a time), ``workers``, ``idle``. A
        server of processes adds theirs up, and has ``processes``, ``replaced`` (how many have died)
        and ``lost`` (connections that ended with them). One of datagrams has ``overflowed``: how
        many the kernel has dropped, since they came faster than they were received.
        """
        with self._lock:
            numbers = with_past(self._counts(), self._past)
        if self._settings.is_of_datagrams:
            numbers["overflowed"] = self._listener.overflowed()
        return numbers

    def report(self) -> dict[str, Any]:
        """Return what its metrics tell: `statistics`, and how its processes are.

        Keys: ``address``, ``workers``, ``phase`` (``idle``, ``starting``, ``serving``,
        ``ending``), ``answers`` (whether it was certain a moment ago that it answers; without
        metrics that is not looked at), ``statistics``, ``processes`` (of each its ``pid``,
        ``phase``, ``answers`` and ``statistics``).
        """
        crew, ledger = self._crew, self._ledger
        serves = None if crew is None else ledger
        return {
            "address": self._shown(),
            "workers": self._settings.workers,
            "phase": "idle" if serves is None else serves.phase,
            "answers": serves is not None and is_fresh(serves, self._beat_s),
            "statistics": self.statistics(),
            "processes": [] if crew is None else crew.report(),
        }

    def _shown(self) -> str:
        """Return the address as users write it."""
        address = self.server_address
        scheme = "udp:" if self._settings.is_of_datagrams else ""
        if isinstance(address, tuple):
            host, port = address[:2]
            return f"{scheme}[{host}]:{port}" if ":" in host else f"{scheme}{host}:{port}"
        return f"{scheme}unix:{os.fsdecode(address)}"

    def _made_metrics(self, address: Any) -> Server:
        """Return the server that tells about this one."""
        from manyhands._server.metrics import METRICS_OPTIONS, metrics_address, metrics_handler

        try:
            listener = Listener(metrics_address(address), mode=0o600)
            # Whoever has made a socket that was handed over has decided whom it is for.
            handler = metrics_handler(self, is_private=listener.is_made_here)
            made = Server(listener, handler, **METRICS_OPTIONS)  # type: ignore[arg-type]
        except BaseException:
            self._listener.close()
            raise
        self.metrics_address = made.server_address
        self._beat_s = BEAT_S if self._beat_s is None else min(BEAT_S, self._beat_s)
        return made

    def _serve_metrics(self) -> None:
        if self._metrics is not None:
            serve, name = self._metrics.serve_forever, f"mh-metrics-{self.server_address}"
            self._telling = threading.Thread(target=serve, name=name, daemon=True)
            self._telling.start()

    def _end_metrics(self) -> None:
        if self._metrics is not None and self._telling is not None:
            self._metrics.shutdown()
            self._telling.join()
            self._telling = None
