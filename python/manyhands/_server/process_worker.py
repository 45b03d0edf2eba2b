"""One of the processes of a server: it serves the listener that all of them have, with threads."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, Protocol

from manyhands import _native
from manyhands._pickle import pickling
from manyhands._server.control_socket import ControlSocket
from manyhands._server.options import check_grace
from manyhands._server.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["main", "run"]


class Served(Protocol):
    """What serves in a process; `serve_forever` tells the parent when it is ready."""

    control: ControlSocket
    # Where it counts what happens, and how often, in seconds, it says that it answers.
    inherited: _native.ServerLedger
    _beat_s: float | None

    def serve_forever(self) -> None: ...
    def end_process(self, grace: float | None = None) -> None: ...


class ProcessServer(Server):
    """The server in one of its processes: a handler that ends it ends all of it."""

    _shared = True
    control: ControlSocket
    inherited: _native.ServerLedger

    def _new_ledger(self) -> _native.ServerLedger:
        return self.inherited

    def shutdown(self, grace: float | None = None) -> None:
        """As `Server.shutdown`: the parent ends all its processes."""
        check_grace(grace)
        if self.control.tell(end=grace):
            self._wait_for_the_end(self._ended)
        else:
            super().shutdown(grace)

    def end_process(self, grace: float | None = None) -> None:
        """End what this process serves."""
        super().shutdown(grace)

    def _is_ready(self, _trouble: str | None = None) -> None:
        self.control.tell(ready=True)


def main(control_fd: int, listener_fd: int, settings_fd: int, ledger_fd: int) -> None:
    """Serve with threads; as `run`."""
    run(ProcessServer, control_fd, listener_fd, settings_fd, ledger_fd)


def run(
    make: Callable[..., AbstractContextManager[Served]],
    control_fd: int,
    listener_fd: int,
    settings_fd: int,
    ledger_fd: int,
) -> None:
    """Serve until the parent, or its end, says that it is enough.

    Args:
        make: makes what serves, of the listener, the handler and the options.
        control_fd: this end of the `ControlSocket`.
        listener_fd: the listening socket.
        settings_fd: a file with the pickled handler and options of the server, and how often to
            make sure that it answers.
        ledger_fd: where it counts what happens.
    """
    # Ctrl-C is for the parent, which tells us when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = ControlSocket(socket.socket(fileno=control_fd))
    with open(settings_fd, "rb") as file:
        handler, options, beat_s = pickling.loads(file.read())
    # What a handler starts must not keep them.
    for number in (control_fd, listener_fd):
        os.set_inheritable(number, False)
    ledger = _native.ServerLedger.inherited(ledger_fd)
    os.close(ledger_fd)
    with make(socket.socket(fileno=listener_fd), handler, **options) as server:
        server.control, server.inherited, server._beat_s = control, ledger, beat_s
        signal.signal(signal.SIGTERM, lambda *_: server.end_process())
        threading.Thread(target=_obey, args=(control, server), daemon=True).start()
        server.serve_forever()


def _obey(control: ControlSocket, server: Served) -> None:
    """Do what the parent says; without one there is nobody to serve for."""
    while (messages := control.hear()) is not None:
        for message in messages:
            if "grace" in message:
                _end(server, message["grace"])
    _end(server, None)


def _end(server: Served, grace: Any) -> None:
    # In a thread of its own: meanwhile there may be more to hear.
    threading.Thread(target=server.end_process, args=(grace,), daemon=True).start()
