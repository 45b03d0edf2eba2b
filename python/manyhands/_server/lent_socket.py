"""The socket of a connection in an event loop, as its handler may have it: to look at, to set."""

from __future__ import annotations

import errno
import os
import socket
from asyncio.trsock import TransportSocket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyhands._native import StreamWriter

__all__ = ["LentSocket"]


class LentSocket(TransportSocket):
    """What asyncio gives out as ``"socket"``: it neither reads nor writes nor closes.

    Args:
        writer: that of the connection, which keeps the descriptor.
    """

    __slots__ = ("_writer",)

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer

    @property
    def _sock(self) -> socket.socket:
        number = self.fileno()
        if number < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return _Borrowed(fileno=number)

    def fileno(self) -> int:
        """Return the number of the socket; -1 once the connection is closed."""
        return self._writer.fileno()


class _Borrowed(socket.socket):
    """A socket for one call: its descriptor is another's."""

    def __del__(self) -> None:
        self.detach()

    def dup(self) -> socket.socket:  # type: ignore[override] # that is the caller's
        """As `socket.socket.dup`."""
        return socket.socket(fileno=os.dup(self.fileno()))
