"""One of the processes of a server: it serves the listener that all of them have, with threads."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Any

from manyhands._pickle import pickling
from manyhands._server.control_socket import ControlSocket
from manyhands._server.server import Server, check_grace

__all__ = ["main"]


class ProcessServer(Server):
    """The server in one of its processes: a handler that ends it ends all of it."""

    _shared = True
    control: ControlSocket

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


def main(control_fd: int, listener_fd: int, settings_fd: int) -> None:
    """Serve until the parent, or its end, says that it is enough.

    Args:
        control_fd: this end of the `ControlSocket`.
        listener_fd: the listening socket.
        settings_fd: a file with the pickled handler and options of the server.
    """
    # Ctrl-C is for the parent, which tells us when it is time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = ControlSocket(socket.socket(fileno=control_fd))
    with open(settings_fd, "rb") as file:
        handler, options = pickling.loads(file.read())
    # What a handler starts must not keep them.
    for number in (control_fd, listener_fd):
        os.set_inheritable(number, False)
    with ProcessServer(socket.socket(fileno=listener_fd), handler, **options) as server:
        server.control = control
        signal.signal(signal.SIGTERM, lambda *_: server.end_process())
        threading.Thread(target=_obey, args=(control, server), daemon=True).start()
        control.tell(ready=True)
        server.serve_forever()
        control.tell(counts=server.statistics(), number=0)


def _obey(control: ControlSocket, server: ProcessServer) -> None:
    """Do what the parent says; without one there is nobody to serve for."""
    while (messages := control.hear()) is not None:
        for message in messages:
            if "grace" in message:
                _end(server, message["grace"])
            if "count" in message:
                control.tell(counts=server.statistics(), number=message["count"])
    _end(server, None)


def _end(server: ProcessServer, grace: Any) -> None:
    # In a thread of its own: meanwhile there may be more to hear.
    threading.Thread(target=server.end_process, args=(grace,), daemon=True).start()
