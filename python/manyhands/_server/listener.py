"""Listening sockets: made from what users write, and closed without a trace."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands._server.refused_address import explained, free_stale_path

if TYPE_CHECKING:
    from typing import TypeAlias

    Address: TypeAlias = str | os.PathLike[str] | tuple[str, int] | socket.socket

__all__ = ["Listener"]

LONGEST_BACKLOG = socket.SOMAXCONN


class Listener:
    """A socket that listens, and what has to be removed when it no longer does.

    Args:
        address: ``(host, port)``, ``"host:port"``, ``"[::1]:port"``, ``"unix:path"``, a path object
            (a Unix socket), ``"fd:3"`` (a listening socket that was inherited), or a listening
            socket, which remains its owner's. An empty host means all of this machine's
            addresses, port 0 any that is free.

    Raises:
        OSError: the address cannot be used; the text says who has it, if that can be seen.
        ValueError: this is no address.
    """

    def __init__(self, address: Address) -> None:
        self._path: str | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._owned = True
        if isinstance(address, socket.socket):
            self._owned = False
            self.socket = self._checked(address)
        elif isinstance(address, str) and address.startswith("fd:"):
            self.socket = self._inherited(address)
        elif isinstance(address, os.PathLike):
            self.socket = self._unix(os.fspath(address))
        elif isinstance(address, str) and address.startswith("unix:"):
            self.socket = self._unix(address.removeprefix("unix:"))
        else:
            self.socket = self._inet(*_host_and_port(address))
        self.address = self.socket.getsockname()

    def close(self) -> None:
        """Stop listening, and remove a Unix socket's file unless another is in its place.

        In a forked process it goes on listening, where it was made, and the file stays.
        """
        if self._owned:
            self.socket.close()
        path, self._path = self._path, None
        if path is not None and self._pid == os.getpid():
            try:
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) == self._identity:
                    Path(path).unlink()
            except OSError:
                pass  # somebody has removed it, which is what was wanted

    @staticmethod
    def _checked(listening: socket.socket) -> socket.socket:
        if listening.type != socket.SOCK_STREAM or not listening.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise ValueError(
                f"{listening!r} does not listen: call its listen() before it is served"
            )
        return listening

    def _inherited(self, address: str) -> socket.socket:
        try:
            number = int(address.removeprefix("fd:"))
            inherited = socket.socket(fileno=os.dup(number))
        except (ValueError, OSError) as error:
            raise ValueError(f"{address!r} names no inherited socket: {error}") from error
        try:
            return self._checked(inherited)
        except BaseException:
            inherited.close()
            raise

    def _unix(self, path: str) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with free_stale_path(socket.SOCK_STREAM, path):
                listening.bind(path)
                status = os.lstat(path)
                self._identity = (status.st_dev, status.st_ino)
                self._path = path
                listening.listen(LONGEST_BACKLOG)
        except BaseException as error:
            listening.close()
            if isinstance(error, OSError):
                raise explained(error, socket.AF_UNIX, socket.SOCK_STREAM, path) from error
            raise
        return listening

    @staticmethod
    def _inet(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, port), family=family, backlog=LONGEST_BACKLOG)
        except OSError as error:
            raise explained(error, family, socket.SOCK_STREAM, (host, port)) from error


def _host_and_port(address: object) -> tuple[str, int]:
    """Read what users write for a host and a port."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
    elif isinstance(address, str) and ":" in address:
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
    else:
        host = port = None
    try:
        number = int(port)
    except (TypeError, ValueError):
        number = -1
    if not isinstance(host, str) or not 0 <= number <= 65535:
        raise ValueError(
            f"{address!r} is no address to listen at: use (host, port), 'host:port', "
            "'unix:path' or 'fd:3'"
        )
    return host, number
