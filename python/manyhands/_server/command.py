"""`manyhands serve`: serve a handler that is named on the command line."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from manyhands._server.beat import BEAT_S
from manyhands._server.handler import is_asynchronous
from manyhands._server.http_server import HttpServer
from manyhands._server.serve import ended_by_signals
from manyhands._server.server import Server
from manyhands._server.service_manager import ServiceManager
from manyhands._server.target import ServeError, find

if TYPE_CHECKING:
    import ssl as tls

__all__ = ["run"]


class CertificateFile:
    """Makes the TLS context, in whichever process needs it."""

    def __init__(self, certificate: str, key: str | None) -> None:
        self._files = certificate, key

    def __call__(self) -> tls.SSLContext:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(*self._files)
        except OSError as error:
            names = " and ".join(filter(None, self._files))
            raise ValueError(f"the certificate in {names} cannot be used: {error}") from error
        return context


class Announced(Server):
    """A server that tells its user and the service manager what it does."""

    def __init__(self, manager: ServiceManager, *arguments: Any, **options: Any) -> None:
        self.manager = manager
        if manager.watchdog_s is not None:
            self._beat_s = min(BEAT_S, manager.watchdog_s / 2)
            self._manager = manager.address
        super().__init__(*arguments, **options)

    def _is_ready(self, trouble: str | None = None) -> None:
        status = f"serving at {self._shown()} with {self._settings.team()}{self.reason}"
        if self._is_first:
            self._is_first = False
            print(status, file=sys.stderr, flush=True)
        self.manager.ready(f"{status}; {trouble}" if trouble else status)

    _is_first = True
    # Why with these, if nobody has asked for them.
    reason = ""

    def reload(self) -> None:
        """As `Server.reload`, and say so; what cannot be reloaded goes on."""
        self.manager.reloading()
        try:
            super().reload()
        except RuntimeError as error:
            print(f"manyhands: {error}", file=sys.stderr, flush=True)
            self._is_ready("it cannot be reloaded")


class AnnouncedHttp(Announced, HttpServer):
    """The same for a server of an application."""


def run(target: str, bind: str | None, workers: str | None, **options: Any) -> int:
    """Serve until SIGTERM or Ctrl-C; SIGHUP reloads processes.

    Args:
        target: ``module:handler``.
        bind: where to listen; None: at what systemd has handed over, or at 127.0.0.1:9000.
        workers: the kind, and how many: ``thread:64``, ``coroutine``; None: what is usual.
        options: ``certificate`` and ``key`` (files), ``interface`` (None, or ``"wsgi"`` or
            ``"asgi"`` for applications), ``metrics`` (where to answer what has been counted), and
            what else `Server` or `HttpServer` takes.

    Returns:
        The exit status.

    Raises:
        ServeError: it cannot be served.
    """
    certificate, key = options.pop("certificate"), options.pop("key")
    if certificate is not None:
        options["ssl"] = CertificateFile(certificate, key)
    given = {name: value for name, value in options.items() if value is not None}
    if workers is not None:
        given["workers"], _, number = workers.partition(":")
        if number:
            given["max_workers"] = int(number)
    try:
        manager = ServiceManager()
        if "metrics" in given:
            given["metrics"] = manager.address_of(given["metrics"])
        listens = manager.address_of(bind) if bind else manager.only_socket()
        address = listens or "127.0.0.1:9000"
        if "interface" in given:
            server: Announced = AnnouncedHttp(manager, address, target, **given)
        else:
            server = _announced(manager, address, find(target), given)
    except (OSError, ValueError, TypeError) as error:
        raise ServeError(f"cannot serve {target}: {error}") from error
    with server:
        return _serve(server, target)


def _announced(manager: ServiceManager, address: str, handler: Any, given: Any) -> Announced:
    chooses = "workers" not in given and is_asynchronous(handler)
    if chooses:
        given["workers"] = "coroutine"
    server = Announced(manager, address, handler, **given)
    if chooses:
        server.reason = ", since the handler is async def"
    return server


def _serve(server: Announced, target: str) -> int:
    def reload(_number: int, _frame: object) -> None:
        server.reload()

    try:
        with ended_by_signals(server, server.manager.stopping, {signal.SIGHUP: reload}):
            server.serve_forever()
    except (OSError, TypeError) as error:
        raise ServeError(f"cannot serve {target}: {error}") from error
    return 0
