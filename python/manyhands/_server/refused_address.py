"""Why a server did not get its address, and whoever has it."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import socket
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["explained", "free_stale_path"]

_IP: Final = (socket.AF_INET, socket.AF_INET6)
_TABLES: Final = {socket.SOCK_STREAM: ("tcp", "tcp6"), socket.SOCK_DGRAM: ("udp", "udp6")}
_LISTENING: Final = "0A"
_TIME_WAIT: Final = "06"


def explained(error: OSError, family: int, kind: int, address: Any) -> OSError:
    """Return an error of `bind` again, with what is behind it and what to do.

    Args:
        error: the error.
        family: of the socket, such as `socket.AF_INET`.
        kind: of the socket, such as `socket.SOCK_STREAM`.
        address: that was asked for.
    """
    reason: str | None = None
    # Whatever cannot be read, the caller gets the error.
    with suppress(OSError, ValueError, IndexError, TypeError):
        if error.errno == errno.EADDRINUSE and family in _IP:
            reason = _holder_of_port(kind, address[1])
        elif error.errno == errno.EADDRINUSE and family == socket.AF_UNIX:
            reason = _holder_of_path(os.fsdecode(address))
        elif error.errno == errno.EACCES and family in _IP:
            lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
            if address[1] < lowest:
                reason = (
                    f"ports below {lowest} are root's; take a higher one, or give the program "
                    "CAP_NET_BIND_SERVICE"
                )
        elif error.errno == errno.EADDRNOTAVAIL and family in _IP:
            reason = "no network interface of this machine has the address"
    if reason is None:
        return error
    shown = f"{address[0]}:{address[1]}" if family in _IP else os.fsdecode(address)
    new = type(error)(error.errno, f"{os.strerror(error.errno or 0)}: {shown}: {reason}")
    return new.with_traceback(error.__traceback__)


def _holder_of_port(kind: int, port: int) -> str | None:
    """Say what has a port, of whichever address: 0.0.0.0 is in the way of each."""
    has_ended = False
    for table in _TABLES.get(socket.SocketKind(kind), ()):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) != port:
                continue
            if fields[3] == _LISTENING or kind == socket.SOCK_DGRAM:
                return _taken_by({fields[9]}, int(fields[7]))
            has_ended = has_ended or fields[3] == _TIME_WAIT
    if has_ended:
        return (
            "connections of a server that has ended are still remembered, for a minute; "
            "allow_reuse_address = True does not wait for that"
        )
    return None


def _holder_of_path(path: str) -> str | None:
    if not Path(path).exists():
        return None
    if not stat.S_ISSOCK(Path(path).stat().st_mode):
        return "there is a file that is not a socket; remove it, or take another path"
    # The sockets of its connections have the path, too, and may be closed by now.
    inodes = {inode for inode, bound in _unix_sockets() if bound == path}
    return _taken_by(inodes, Path(path).stat().st_uid) if inodes else "another server has it"


def _taken_by(inodes: set[str], user: int) -> str:
    """Say which process has one of these sockets."""
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            descriptors = f"/proc/{process}/fd"
            if any(_link(f"{descriptors}/{each}") in links for each in os.listdir(descriptors)):
                name = Path(f"/proc/{process}/comm").read_text().strip()
                whose = "this process" if int(process) == os.getpid() else f"process {process}"
                return f"{whose} ({name}) has it; end that, or take another address"
    name = str(user)
    with suppress(KeyError):
        name = pwd.getpwuid(user).pw_name
    return f"a process of the user {name} has it"


def _link(path: str) -> str | None:
    with suppress(OSError):
        return os.readlink(path)
    return None


def _unix_sockets() -> Iterable[tuple[str, str]]:
    """Yield (inode, path) of the sockets that have a path."""
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        found = re.fullmatch(r"(?:\S+ +){6}(\d+) (.+)", line)
        if found:
            yield found[1], found[2]


@contextmanager
def free_stale_path(kind: int, address: Any) -> Iterator[bool]:
    """Remove the file of a Unix socket that nobody has any more; say whether that was done.

    Two servers that find the same file must not remove each other's new one: what is done in the
    block is done by one at a time.

    Args:
        kind: `socket.SOCK_STREAM` or `socket.SOCK_DGRAM`.
        address: the path, as it is given to `bind`.
    """
    path = os.fsdecode(address)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        is_stale = _is_stale(kind, path)
        if is_stale:
            Path(path).unlink()
        yield is_stale
    finally:
        os.close(folder)


def _is_stale(kind: int, path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        # One that is bound and does not listen yet refuses connections, too.
        if any(bound == path for _, bound in _unix_sockets()):
            return False
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):  # a name that is no path has a zero in it
        return False
    return False
