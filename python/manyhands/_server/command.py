"""`manyhands serve`: serve a handler that is named on the command line."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhands._errors.base import ManyhandsError
from manyhands._server.serve import ended_by_signals
from manyhands._server.server import Server

if TYPE_CHECKING:
    import ssl as tls
    from types import FrameType

__all__ = ["run"]

# What systemd hands over begins there.
FIRST_INHERITED = 3


class ServeError(ManyhandsError):
    """What was asked for cannot be served."""


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
    """A server that tells the service manager and its user what it does."""

    def _is_ready(self) -> None:
        print(f"serving at {self._shown()} with {self._team()}", file=sys.stderr, flush=True)
        notify("READY=1")

    def _shown(self) -> str:
        address = self.server_address
        if isinstance(address, tuple):
            host, port = address[:2]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"unix:{os.fsdecode(address)}"


def run(target: str, bind: str | None, workers: str, **options: Any) -> int:
    """Serve until SIGTERM or Ctrl-C; SIGHUP reloads processes.

    Args:
        target: ``module:handler``.
        bind: where to listen; None: at what systemd has handed over, or at 127.0.0.1:9000.
        workers: ``thread``, ``thread:64``, ``process`` or ``process:4``.
        options: ``certificate`` and ``key`` (files), and what else `Server` takes.

    Returns:
        The exit status.

    Raises:
        ServeError: it cannot be served.
    """
    certificate, key = options.pop("certificate"), options.pop("key")
    if certificate is not None:
        options["ssl"] = CertificateFile(certificate, key)
    handler = _find(target)
    kind, _, number = workers.partition(":")
    try:
        server = Announced(
            bind or _inherited() or "127.0.0.1:9000",
            handler,
            workers=kind,  # type: ignore[arg-type] # refused if it is another
            max_workers=int(number) if number else None,
            **{name: value for name, value in options.items() if value is not None},
        )
    except (OSError, ValueError, TypeError) as error:
        raise ServeError(f"cannot serve {target}: {error}") from error
    with server:
        return _serve(server, target)


def _serve(server: Server, target: str) -> int:
    def reload(_number: int, _frame: FrameType | None) -> None:
        try:
            server.reload()
        except RuntimeError as error:
            print(f"manyhands: {error}", file=sys.stderr, flush=True)

    try:
        with ended_by_signals(server, lambda: notify("STOPPING=1"), {signal.SIGHUP: reload}):
            server.serve_forever()
    except (OSError, TypeError) as error:
        raise ServeError(f"cannot serve {target}: {error}") from error
    return 0


def _find(target: str) -> Any:
    """Import what ``module:name`` names; the working directory comes first."""
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise ServeError(f"{target!r} names no handler: write module:handler, as in dinos:LookUp")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        if error.name != module:
            raise
        raise ServeError(
            f"there is no module {module!r} in {here} or among what is installed"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ServeError(f"{module} has no {name!r}")
        found = getattr(found, part)
    return found


def _inherited() -> str | None:
    """Return the address of the socket that systemd has handed over, if it has."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    if count != "1":
        raise ServeError(f"LISTEN_FDS={count!r}: one socket can be served, say which: --bind fd:3")
    return f"fd:{FIRST_INHERITED}"


def notify(state: str) -> None:
    """Tell the service manager, if there is one that listens; see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address)
    except OSError as error:
        print(f"manyhands: cannot tell {address!r} {state}: {error}", file=sys.stderr)
