"""The sockets of servers: made from what users write, and closed without a trace."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhands._server.refused_address import explained, free_stale_path

if TYPE_CHECKING:
    from typing import TypeAlias

    Address: TypeAlias = str | os.PathLike[str] | tuple[str, int] | socket.socket

__all__ = ["Listener", "is_of_datagrams"]

LONGEST_BACKLOG = socket.SOMAXCONN
UDP = "udp:"
# The memory of a socket in numbers, as linux/sock_diag.h has them; and which of them says how many
# datagrams were dropped since there was none left.
SO_MEMINFO = 55
DROPS = 8
# What binding says where the kernel has IPv6, and the machine no addresses for it.
NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listener:
    """A socket at which clients are heard, and what has to be removed when they no longer are.

    Args:
        address: ``(host, port)``, ``"host:port"``, ``"[::1]:port"``, ``"unix:path"``, a path object
            (a Unix socket), ``"fd:3"`` (a socket that was inherited and listens), or a listening
            socket, which remains its owner's. An empty host means all of this machine's
            addresses, of IPv4 and IPv6 where it has both; port 0 any that is free. For datagrams
            ``"udp:host:port"``, ``"udp:unix:path"``, or an inherited or other socket of datagrams
            that has an address; there an empty host means IPv4.
        mode: the rights to a Unix socket's file; None: what the umask leaves.

    Raises:
        OSError: the address cannot be used; the text says who has it, if that can be seen.
        ValueError: this is no address.
    """

    def __init__(self, address: Address, mode: int | None = None) -> None:
        self._path: str | None = None
        self._identity: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._owned = True
        self._mode = mode
        if isinstance(address, socket.socket):
            self._owned = False
            self.socket = self._checked(address)
        elif isinstance(address, str) and address.startswith("fd:"):
            self.socket = self._inherited(address)
        elif isinstance(address, os.PathLike):
            self.socket = self._unix(os.fspath(address))
        else:
            self.socket = self._bound(address)
        self.address = self.socket.getsockname()
        self._overflowed = 0

    def overflowed(self) -> int:
        """Return how many datagrams the kernel has dropped since its buffer was full."""
        if self.socket.fileno() >= 0:
            numbers = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (DROPS + 1))
            self._overflowed = memoryview(numbers).cast("I")[DROPS]
        return self._overflowed

    @property
    def is_made_here(self) -> bool:
        """Whether it is a Unix socket that was made for this."""
        return self._path is not None

    def close(self) -> None:
        """Stop listening, and remove a Unix socket's file unless another is in its place.

        In a forked process it goes on listening, where it was made, and the file stays.
        """
        if self._owned:
            if self.socket.type == socket.SOCK_DGRAM:
                self.overflowed()
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
        if listening.type == socket.SOCK_DGRAM:
            name = listening.getsockname()
            if not (name[1] if isinstance(name, tuple) else name):
                raise ValueError(
                    f"{listening!r} has no address: call its bind() before it is served"
                )
            return listening
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

    def _bound(self, address: Any) -> socket.socket:
        rest, kind = address, socket.SOCK_STREAM
        if is_of_datagrams(address):
            rest, kind = address.removeprefix(UDP), socket.SOCK_DGRAM
        if isinstance(rest, str) and rest.startswith("unix:"):
            return self._unix(rest.removeprefix("unix:"), kind)
        host, port = _host_and_port(rest)
        return self._udp(host, port) if kind == socket.SOCK_DGRAM else self._inet(host, port)

    def _unix(self, path: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, kind)
        try:
            with free_stale_path(kind, path):
                listening.bind(path)
                status = os.lstat(path)
                self._identity = (status.st_dev, status.st_ino)
                self._path = path
                if self._mode is not None:
                    # Before it listens: until then nobody can connect.
                    Path(path).chmod(self._mode)
                if kind == socket.SOCK_STREAM:
                    listening.listen(LONGEST_BACKLOG)
                else:
                    # A client that does not read would hold up whoever sends it anything.
                    listening.setblocking(False)
        except BaseException as error:
            listening.close()
            if isinstance(error, OSError):
                raise explained(error, socket.AF_UNIX, kind, path) from error
            raise
        return listening

    @staticmethod
    def _inet(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        both = not host and socket.has_dualstack_ipv6()
        try:
            if both:
                try:
                    return _of_both_families(port)
                except OSError as error:
                    if error.errno not in NO_IPV6:
                        raise
            return socket.create_server((host, port), family=family, backlog=LONGEST_BACKLOG)
        except OSError as error:
            raise explained(error, family, socket.SOCK_STREAM, (host, port)) from error

    @staticmethod
    def _udp(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bound.bind((host, port))
        except OSError as error:
            bound.close()
            raise explained(error, family, socket.SOCK_DGRAM, (host, port)) from error
        return bound


def is_of_datagrams(address: object) -> bool:
    """Tell whether an address is one of datagrams, which have no connections."""
    if isinstance(address, str) and address.startswith("fd:"):
        try:
            with socket.socket(fileno=os.dup(int(address.removeprefix("fd:")))) as inherited:
                return inherited.type == socket.SOCK_DGRAM
        except (ValueError, OSError):
            return False  # which whoever serves it will hear of
    if isinstance(address, socket.socket):
        return address.type == socket.SOCK_DGRAM
    return isinstance(address, str) and address.startswith(UDP)


def _of_both_families(port: int) -> socket.socket:
    return socket.create_server(
        ("", port), family=socket.AF_INET6, backlog=LONGEST_BACKLOG, dualstack_ipv6=True
    )


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
            "'unix:path' or 'fd:3', or 'udp:host:port'"
        )
    return host, number
