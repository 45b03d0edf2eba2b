"""Servers of web applications: HTTP servers of others, in processes that share our listener."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from manyhands._server.application import Application
from manyhands._server.server import Server
from manyhands._server.settings import Settings

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Callable

    from manyhands._server.listener import Address

__all__ = ["HttpServer"]

# So many requests a process of a WSGI application answers at a time, unless it is said.
THREADS = 16
# What is decided by those who read requests, and what would do instead.
NOT_OURS = {
    "max_queue": "clients wait in the listener's queue: use max_connections",
    "overflow": "clients wait in the listener's queue: use max_connections",
    "connection_timeout": "a connection carries many requests, so limit these in the application",
    "first_byte_timeout": "idle connections take no worker",
    "proxy_protocol": "have the proxy say it by X-Forwarded-For",
}


class HttpSettings(Settings):
    """The options of a server whose handler is an `Application`."""

    @property
    def program(self) -> str:  # type: ignore[override] # by its interface
        """Return the module whose `main` each process runs."""
        return str(self.handler.runner().program)

    def _serve(self) -> Any:
        return self.handler.find()

    def of_process(self) -> dict[str, Any]:
        """Return the options of what serves in each process."""
        options = super().of_process()
        used = {"max_connections", "ssl", "handshake_timeout", "grace"}
        if self.handler.interface == "wsgi":
            options["threads"] = self.threads_per_process
            used.add("threads")
        return {name: options[name] for name in used}


class HttpServer(Server):
    """Serves a WSGI application with waitress, or an ASGI application with uvicorn.

    They are thin runners: the HTTP is theirs. Ours are the listener, and the processes: supervised,
    replaced, reloaded and ended as those of a `Server`, of which this has all methods.

    Args:
        address: where to listen; see `Server`.
        target: the application as ``module:name``. Each process imports it, so that a reload finds
            what it is then; this process does, too, to see whether it can be served.
        interface: ``"wsgi"`` or ``"asgi"``.
        workers: ``"process"``; for WSGI also ``"thread"``, for one process.
        max_workers: how many; None means one process, or 16 threads.
        max_connections: as for `Server`; those beyond wait in the listener's queue.
        ssl: a function that makes the context for TLS.
        handshake_timeout: as for `Server`.
        grace: as for `Server`.
        start_timeout: as for `Server`.
        metrics: as for `Server`; what is open is counted each second.

    Raises:
        OSError: the address cannot be had.
        ServeError: there is no such application.
        TypeError: the application is of the other interface; the text says which.
        ValueError: the runner cannot do what is asked for, or its package is not installed; the
            text says what would do.

    Example:
        >>> with HttpServer("127.0.0.1:8000", "shop:app", interface="wsgi") as server:
        ...     server.serve_forever()  # doctest: +SKIP
    """

    _settings_class = HttpSettings

    def __init__(
        self,
        address: Address,
        target: str,
        *,
        interface: Literal["wsgi", "asgi"],
        workers: str = "process",
        max_workers: int | None = None,
        max_connections: int | None = None,
        ssl: Callable[[], tls.SSLContext] | None = None,
        handshake_timeout: float = 10.0,
        grace: float = 5.0,
        start_timeout: float = 60.0,
        metrics: Address | int | None = None,
        **others: Any,
    ) -> None:
        application = Application(target, interface)
        _check(application, workers, others)
        if isinstance(address, str) and address.startswith("udp:"):
            raise ValueError(
                f"{address!r} is for datagrams, which carry no HTTP/1.1: use host:port"
            )
        if ssl is not None:
            ssl()  # here, where what is wrong with it is said at once
        in_threads = workers == "thread"
        super().__init__(
            address,
            application,  # type: ignore[arg-type] # its settings know
            workers="process",
            max_workers=1 if in_threads or max_workers is None else max_workers,
            threads_per_process=max_workers if in_threads and max_workers else THREADS,
            max_connections=max_connections,
            ssl=ssl,
            handshake_timeout=handshake_timeout,
            grace=grace,
            start_timeout=start_timeout,
            metrics=metrics,
        )


def _check(application: Application, workers: str, others: dict[str, Any]) -> None:
    """Refuse what its runner cannot do."""
    runner, interface = application.runner(), application.interface.upper()
    if workers not in runner.workers:
        raise ValueError(
            f"workers={workers!r} is not for {interface} applications: use {runner.why}"
        )
    for name in others:
        instead = NOT_OURS.get(name, "it is not known")
        raise ValueError(f"{name} is not for {interface} applications: {instead}")
