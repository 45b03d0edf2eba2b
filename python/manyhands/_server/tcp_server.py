"""Servers with a socket: of the internet's protocols, and of Unix."""

from __future__ import annotations

import errno
import socket
import socketserver
from contextlib import suppress

from manyhands._server.base_server import BaseServer
from manyhands._server.forking_mixin import ForkingMixIn
from manyhands._server.refused_address import explained, free_stale_path
from manyhands._server.threading_mixin import ThreadingMixIn

__all__ = [
    "ForkingTCPServer",
    "ForkingUDPServer",
    "ForkingUnixDatagramServer",
    "ForkingUnixStreamServer",
    "TCPServer",
    "ThreadingTCPServer",
    "ThreadingUDPServer",
    "ThreadingUnixDatagramServer",
    "ThreadingUnixStreamServer",
    "UDPServer",
    "UnixDatagramServer",
    "UnixStreamServer",
]


class TCPServer(BaseServer, socketserver.TCPServer):
    """`socketserver.TCPServer`; see `BaseServer`.

    Attributes:
        request_queue_size: as many as the system allows, as from CPython 3.15 on; before it was 5.
    """

    request_queue_size = socket.SOMAXCONN

    def server_bind(self) -> None:
        """Bind the socket to its address.

        The file of a Unix socket that a server has left behind is removed first.

        Raises:
            OSError: the address cannot be had; the message says which process has it.
        """
        try:
            try:
                super().server_bind()
            except OSError as error:
                if not self.__takes_over(error):
                    raise
        except OSError as error:
            raise explained(
                error, self.address_family, self.socket_type, self.server_address
            ) from None

    def __takes_over(self, error: OSError) -> bool:
        """Take over the path of a Unix socket, if that is possible; say whether it was."""
        if error.errno != errno.EADDRINUSE or self.address_family != socket.AF_UNIX:
            return False
        with suppress(OSError), free_stale_path(self.socket_type, self.server_address) as free:
            if free:
                super().server_bind()
            return free
        return False


class UDPServer(TCPServer, socketserver.UDPServer):
    """`socketserver.UDPServer`; see `BaseServer`."""


class UnixStreamServer(TCPServer, socketserver.UnixStreamServer):
    """`socketserver.UnixStreamServer`; see `BaseServer` and `TCPServer.server_bind`."""


class UnixDatagramServer(UDPServer, socketserver.UnixDatagramServer):
    """`socketserver.UnixDatagramServer`; see `BaseServer` and `TCPServer.server_bind`."""


class ThreadingTCPServer(ThreadingMixIn, TCPServer):
    """A `TCPServer` with a thread for each connection."""


class ThreadingUDPServer(ThreadingMixIn, UDPServer):
    """A `UDPServer` with a thread for each datagram."""


class ThreadingUnixStreamServer(ThreadingMixIn, UnixStreamServer):
    """A `UnixStreamServer` with a thread for each connection."""


class ThreadingUnixDatagramServer(ThreadingMixIn, UnixDatagramServer):
    """A `UnixDatagramServer` with a thread for each datagram."""


class ForkingTCPServer(ForkingMixIn, TCPServer):
    """A `TCPServer` with a process for each connection."""


class ForkingUDPServer(ForkingMixIn, UDPServer):
    """A `UDPServer` with a process for each datagram."""


class ForkingUnixStreamServer(ForkingMixIn, UnixStreamServer):
    """A `UnixStreamServer` with a process for each connection, on CPython 3.11, too."""


class ForkingUnixDatagramServer(ForkingMixIn, UnixDatagramServer):
    """A `UnixDatagramServer` with a process for each datagram, on CPython 3.11, too."""
