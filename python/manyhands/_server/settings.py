"""What a server was asked for, checked, and with what nobody has asked for."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from manyhands._server.datagram_handler import answer_with, check_options
from manyhands._server.handler import is_asynchronous, serve_with
from manyhands._server.message_handler import MessageHandler
from manyhands._server.options import (
    check_words,
    count,
    most_connections,
    optional_seconds,
    seconds,
)
from manyhands._server.proxy_protocol import ProxyProtocol

if TYPE_CHECKING:
    from manyhands._server.served_loop import LoopService
    from manyhands._server.thread_workers import Service

__all__ = ["Settings"]

# How many workers there are by default.
MOST_THREADS = 64
MOST_LOOPS = 1


@dataclass
class Settings:
    """The options of `Server`, and its handler; `max_...` are numbers from now on, never None.

    Raises:
        TypeError: an option, or the handler, does not fit; the text says what would.
        ValueError: a number is none, or a word.
    """

    # The module whose `main` each process runs.
    program: ClassVar[str] = "process_worker"

    handler: Any
    is_of_datagrams: bool
    workers: Any
    framing: str | None
    limit: int
    max_workers: Any
    threads_per_process: int
    max_connections: Any
    max_active: Any
    max_queue: Any
    overflow: Any
    max_packet_size: int
    proxy_protocol: Any
    ssl: Any
    handshake_timeout: float
    first_byte_timeout: float | None
    connection_timeout: float | None
    stuck_after: float | None
    grace: float
    start_timeout: float
    loop_factory: Any

    def __post_init__(self) -> None:
        self.executor: Executor | None = None
        if isinstance(self.workers, Executor):
            self._borrow(self.workers)
        if self.is_of_datagrams:
            self._check_datagrams()
        check_words(self.workers, self.max_queue, self.overflow)
        self.is_of_processes = self.workers == "process"
        # The workers of processes are event loops, too, if the handler needs them.
        self.is_of_greenlets = self.workers == "greenlet"
        if self.is_of_greenlets:
            from manyhands._coroutine.greenlets import check_installed

            check_installed()
        is_of_loops = self.workers in ("coroutine", "greenlet")
        self.is_of_loops = is_of_loops or (self.is_of_processes and is_asynchronous(self.handler))
        self.limit = count("limit", self.limit, 1)
        self.messages: MessageHandler | None = None
        if self.framing is not None:
            self.messages = MessageHandler(self.handler, self.framing, self.limit)
        self._check_numbers()
        self.proxies: ProxyProtocol | None = None
        if self.proxy_protocol is not None:
            self._check_proxies()
        self.handshake_timeout = seconds("handshake_timeout", self.handshake_timeout)
        self.first_byte_timeout = optional_seconds("first_byte_timeout", self.first_byte_timeout)
        self.connection_timeout = optional_seconds("connection_timeout", self.connection_timeout)
        if self.stuck_after is not None:
            self.stuck_after = seconds("stuck_after", self.stuck_after, 0.0) or None
        self.grace = seconds("grace", self.grace, 0.0)
        self.start_timeout = seconds("start_timeout", self.start_timeout)
        self.serve = self._serve()

    def _borrow(self, executor: Executor) -> None:
        from manyhands._server.lent_pool import kind_of

        self.executor, self.workers = executor, kind_of(executor)
        for name in ("max_workers", "loop_factory"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} is what {executor!r} was made with: leave it out here")

    def _check_datagrams(self) -> None:
        self.max_packet_size = count("max_packet_size", self.max_packet_size, 8192)
        for_connections = ("proxy_protocol", "ssl", "framing")
        times = ("first_byte_timeout", "connection_timeout")
        check_options(
            self.overflow, {name: getattr(self, name) for name in for_connections + times}
        )

    def _check_proxies(self) -> None:
        self.proxies = ProxyProtocol(self.proxy_protocol)
        # For processes, in plain text.
        self.proxy_protocol = self.proxies.peers

    def _check_numbers(self) -> None:
        most = MOST_LOOPS if self.is_of_loops else MOST_THREADS
        if self.is_of_processes:
            most = os.cpu_count() or 1
        if self.executor is not None:
            from manyhands._server.lent_pool import most_tasks, most_workers

            most = most_workers(self.executor)
        self.max_workers = count("max_workers", self.max_workers, most)
        threads = count("threads_per_process", self.threads_per_process, MOST_THREADS)
        self.threads_per_process = threads
        self.max_connections = count("max_connections", self.max_connections, most_connections())
        served = self.max_workers * threads if self.is_of_processes else self.max_workers
        if self.is_of_loops:
            served = self.max_connections
            if self.executor is not None:
                served = min(served, most_tasks(self.executor))
        self.max_active = count("max_active", self.max_active, served)
        self.max_queue = count("max_queue", self.max_queue, self.max_connections, least=0)

    def _serve(self) -> Any:
        """Return how workers serve one connection, or handle a datagram."""
        messages, coroutines = self.messages, self.is_of_loops and not self.is_of_greenlets
        if self.is_of_datagrams:
            return answer_with(self.handler, coroutines=coroutines)
        if messages is None or (messages.is_asynchronous and not coroutines):
            return serve_with(self.handler, coroutines=coroutines)
        return messages.serve_streams if coroutines else messages.serve_socket

    def team(self) -> str:
        """Return how many workers of which kind there are, in words."""
        one, many = "thread", "threads"
        if self.is_of_processes:
            one, many = "process", "processes"
        elif self.is_of_loops:
            one, many = "event loop", "event loops"
        kind = one if self.max_workers == 1 else many
        return f"{self.max_workers} {kind}{' of greenlets' if self.is_of_greenlets else ''}"

    def of_process(self) -> dict[str, Any]:
        """Return the options of the `Server` in each process."""
        options = {each.name: getattr(self, each.name) for each in fields(self)}
        del options["handler"], options["is_of_datagrams"]
        return options | {
            "workers": "coroutine" if self.is_of_loops else "thread",
            "max_workers": MOST_LOOPS if self.is_of_loops else self.threads_per_process,
            "max_connections": -(-self.max_connections // self.max_workers),
            "max_active": -(-self.max_active // self.max_workers),
            # What one process had queued, another that is idle could not serve.
            "max_queue": 0,
        }

    def limits(self) -> dict[str, Any]:
        """Return how many of what there may be, as engines have it."""
        numbers = {
            "workers": self.max_workers,
            "connections": self.max_connections,
            "active": self.max_active,
            "queued": self.max_queue,
            "reject": self.overflow != "wait",
            "longest": self.max_packet_size if self.is_of_datagrams else None,
        }
        if not self.is_of_loops:
            numbers["lent"] = self.executor is not None
        return numbers

    def service(self, server: object) -> Service | LoopService:
        """Return what the workers of this process do with each connection."""
        context = self.ssl() if callable(self.ssl) else self.ssl
        if self.is_of_loops:
            from manyhands._server.served_loop import LoopService

            serve, is_called = self.serve, False
            if self.is_of_datagrams:
                from manyhands._server.datagram_loop import answered_by

                serve = answered_by(serve, server, greenlets=self.is_of_greenlets)
            elif self.is_of_greenlets:
                from manyhands._server.greenlet_socket import served_by_greenlets

                serve = served_by_greenlets(serve, server)
            else:
                is_called = self.messages is not None and not self.messages.is_asynchronous
            return LoopService(
                serve,
                self.messages.of_client if is_called else None,  # type: ignore[union-attr]
                self.framing,
                self.limit,
                self.proxies,
                context,
                self.handshake_timeout,
                self.first_byte_timeout,
                self.connection_timeout,
                self.handler,
            )
        from manyhands._server.thread_workers import Service

        times = self.handshake_timeout, self.first_byte_timeout
        return Service(self.serve, self.proxies, context, *times, server=server)
