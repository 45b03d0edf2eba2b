"""Listening sockets: made from what users write, and closed without a trace."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

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
        """Stop listening, and remove a Unix socket's file unless another is in its place."""
        if self._owned:
            self.socket.close()
        path, self._path = self._path, None
        if path is not None:
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
            _remove_if_stale(path)
            listening.bind(path)
            status = os.lstat(path)
            self._identity = (status.st_dev, status.st_ino)
            self._path = path
            listening.listen(LONGEST_BACKLOG)
        except BaseException as error:
            listening.close()
            if isinstance(error, OSError):
                raise _explained(error, path) from error
            raise
        return listening

    @staticmethod
    def _inet(host: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, port), family=family, backlog=LONGEST_BACKLOG)
        except OSError as error:
            raise _explained(error, f"{host or '*'}:{port}", port) from error


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


def _remove_if_stale(path: str) -> None:
    """Remove the file of a Unix socket at which nobody listens any more."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind() says that it exists
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        except OSError:
            pass  # a full queue is somebody's; what else there may be, bind() tells


def _explained(error: OSError, place: str, port: int | None = None) -> OSError:
    """Say who has the address, or what it takes to get it."""
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE and port is not None:
        owner = _owner_of(port)
        reason = f"in use{f' by {owner}' if owner else ''}: stop that, or choose another port"
    elif error.errno == errno.EADDRINUSE:
        reason = "somebody listens there, or the file is no socket: choose another path"
    elif error.errno == errno.EACCES and port is not None and port < 1024:
        reason = "ports below 1024 are root's: choose another, or have systemd open it (fd:3)"
    return type(error)(error.errno, f"cannot listen at {place}: {reason}")


def _owner_of(port: int) -> str | None:
    """Find the process that listens at a port, as far as this user may see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        inodes |= {
            row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port
        }
    targets = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(str.isdigit, os.listdir("/proc") if targets else ()):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in targets:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                        return f"process {pid} ({comm.read().strip()})"
        except OSError:
            continue
    return None
