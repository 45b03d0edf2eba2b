"""The connections that a server is serving: ended when it is time, and what has become of them."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

from manyhands._server.stream_socket import StreamSocket

if TYPE_CHECKING:
    from manyhands import _native


class OpenConnections:
    """The sockets of connections that handlers have, and until when they may have them.

    Used by all workers and the serving thread. A connection that is not served any more is not
    ended either: its number may be another's by then.

    Args:
        longest: how many seconds a connection may be open; None: as long as it likes.
    """

    # Where it is counted what has become of them: another one for each run.
    ledger: _native.ServerLedger

    def __init__(self, longest: float | None) -> None:
        self._longest = longest
        # Number of the worker's thread -> its socket, and when that is ended.
        self._sockets: dict[int, tuple[socket.socket | None, float | None]] = {}
        # Held while connections are ended, which never waits, and to take one out.
        self._ending = threading.Lock()

    def __len__(self) -> int:
        return len(self._sockets)

    def begin(self, worker: int, connection: socket.socket | None) -> None:
        """Note that a worker serves a connection; None for a datagram, which cannot be ended."""
        end = None if self._longest is None else time.monotonic() + self._longest
        self._sockets[worker] = connection, end

    def replace(self, worker: int, connection: socket.socket) -> None:
        """Note that the connection has got another socket, whose time began with the first."""
        self._sockets[worker] = connection, self._sockets[worker][1]

    def finish(self, worker: int) -> None:
        """Note that the worker serves it no more."""
        with self._ending:
            self._sockets.pop(worker, None)

    def count(self, what: str) -> None:
        """Add one to a number of the server."""
        self.ledger.add(what, 1)

    def next_look(self, otherwise: float | None) -> float | None:
        """Return after how many seconds to look again; None: never."""
        now = time.monotonic()
        open_ones = list(self._sockets.values())
        waits = [max(0.0, end - now) for _, end in open_ones if end is not None]
        if otherwise is not None and open_ones:
            waits.append(otherwise)
        # A connection that begins meanwhile ends no sooner than this.
        if self._longest is not None:
            waits.append(self._longest)
        return min(waits, default=None)

    def end_late(self) -> None:
        """End connections that have been open for too long."""
        now = time.monotonic()
        with self._ending:
            for worker, (connection, end) in list(self._sockets.items()):
                if end is not None and end <= now:
                    self._sockets[worker] = connection, None
                    self.count("timed_out")
                    _end(connection)

    def end_idle(self) -> None:
        """End connections whose handlers wait for another request."""
        with self._ending:
            for connection, _ in list(self._sockets.values()):
                if isinstance(connection, StreamSocket) and connection.is_idle():
                    _end(connection)

    def end_all(self) -> None:
        """End all connections: their handlers read the end."""
        with self._ending:
            for connection, _ in list(self._sockets.values()):
                _end(connection)


def _end(connection: socket.socket | None) -> None:
    if connection is None:
        return
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended by itself
