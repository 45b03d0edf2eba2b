"""A RabbitMQ for development and tests, which is there for as long as somebody uses it."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manyhands._cluster.rabbitmq_node import USER
from manyhands._server.control_socket import ControlSocket
from manyhands._worker import interpreter

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["PrivateBroker"]

# Longer than a node may take to end, and to start again.
PATIENCE_S: Final = 120.0


class PrivateBroker:
    """A RabbitMQ that is started from the installed server, and ends with its user.

    It has ports, password and data of its own, listens on the loopback interface only, and does
    not touch a RabbitMQ that the system runs. When the user ends, however that happens, it is
    stopped and its data removed. It takes some seconds to start. Not thread-safe.

    Raises:
        FileNotFoundError: RabbitMQ is not installed.
        RuntimeError: it does not start; with what it has said.

    Example:
        >>> with PrivateBroker() as broker:
        ...     print(broker.url)
        amqp://manyhands:8f…@127.0.0.1:40127/%2f
    """

    def __init__(self) -> None:
        mine, theirs = socket.socketpair()
        with theirs:
            self._begin(mine, _keeper(theirs, None))

    def _begin(self, end: socket.socket, keeper: subprocess.Popen[bytes] | None = None) -> None:
        end.settimeout(PATIENCE_S)
        self._socket = end
        self._control = ControlSocket(end)
        self._keeper = keeper
        try:
            self._url = self._hear()
        except BaseException:
            self.close()
            raise

    @classmethod
    def shared(cls, folder: Path | None = None) -> Self:
        """Return the one that all programs of this user share; the first of them starts it.

        It ends with the last that uses it.

        Args:
            folder: where it is found by those that share it, and only this user may look; by
                default of the user's own temporary files (``XDG_RUNTIME_DIR``, or the system's).

        Raises:
            PermissionError: somebody else may use the folder.

        Example:
            >>> with PrivateBroker.shared() as mine, PrivateBroker.shared() as other:
            ...     mine.url == other.url
            True
        """
        broker = cls._found(folder, or_new=True)
        assert broker is not None
        return broker

    @classmethod
    def running(cls, folder: Path | None = None) -> Self | None:
        """Return the one that programs of this user share, if any of them has started it.

        Args:
            folder: as for `shared`.

        Example:
            >>> with PrivateBroker.shared() as mine, PrivateBroker.running() as other:
            ...     mine.url == other.url
            True
        """
        return cls._found(folder, or_new=False)

    @classmethod
    def _found(cls, folder: Path | None, or_new: bool) -> Self | None:
        folder = _own_folder() if folder is None else folder.absolute()
        if not (or_new or folder.exists()):
            return None
        _check(folder)
        with open(folder / "broker.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            broker = cls.__new__(cls)
            try:
                broker._begin(_connected(folder / "broker.socket"))
            except (ConnectionError, FileNotFoundError):
                # There is none, or its last user has just left.
                if not or_new:
                    return None
                mine, theirs = socket.socketpair()
                with theirs, _listener(folder / "broker.socket") as listener:
                    _keeper(theirs, listener).wait()  # it goes on in the background
                broker._begin(mine)
            return broker

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        return self._url

    def add_vhost(self, name: str) -> str:
        """Make a virtual host, with nothing in it; return its URL.

        Args:
            name: letters, digits and what joins them (``._-``).

        Example:
            >>> broker.add_vhost("orders")
            'amqp://manyhands:8f…@127.0.0.1:40127/orders'
        """
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise ValueError(f"a virtual host's name has letters, digits, . _ - only, not {name!r}")
        host, user = f'<<"{name}">>', f'<<"{USER}">>'
        self.ask(f"rabbit_vhost:add({host}, {user}).")
        rights = ", ".join(['<<".*">>'] * 3)
        self.ask(f"rabbit_auth_backend_internal:set_permissions({user}, {host}, {rights}, {user}).")
        return self._url.rpartition("/")[0] + f"/{name}"

    def ask(self, expression: str) -> str:
        """Have it evaluate Erlang, as ``rabbitmqctl eval`` does; return the value, in Erlang.

        Example:
            >>> broker.ask("rabbit_misc:version().")
            '"3.10.8"'
        """
        return self._wish("ask", expression)

    def stop(self, kill: bool = False) -> None:
        """End it for a while; durable queues and their messages are there after `start`.

        Args:
            kill: at once, as a crash.
        """
        self._wish("stop", kill)

    def start(self) -> None:
        """Start it again, at the same URL."""
        self._wish("start")

    def restart(self, kill: bool = False) -> None:
        """Stop and start it."""
        self.stop(kill)
        self.start()

    def close(self) -> None:
        """End this use of it; with the last use it ends itself, and its data is removed."""
        with self._socket, suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(65536):
                pass  # what was not awaited
        if self._keeper is not None:
            self._keeper.wait()
            self._keeper = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wish(self, wish: str, argument: Any = None) -> str:
        self._control.tell(wish=wish, argument=argument)
        return self._hear()

    def _hear(self) -> str:
        while not (said := self._control.hear()):
            if said is None:
                raise ConnectionAbortedError("the keeper of the private RabbitMQ has ended")
        ((what, text),) = said[0].items()
        if what == "answer":
            return str(text)
        raise (FileNotFoundError if what == "missing" else RuntimeError)(text)


def _keeper(user: socket.socket, listener: socket.socket | None) -> subprocess.Popen[bytes]:
    """Start the process that keeps a node for these users."""
    numbers = (user.fileno(), None if listener is None else listener.fileno())
    code = (
        f"import sys; sys.path[:] = {[*sys.path, interpreter.home()]!r}; "
        f"from manyhands._cluster.broker_keeper import main; main{numbers!r}"
    )
    return subprocess.Popen(
        [interpreter.program(), *interpreter.arguments(code)],
        pass_fds=[number for number in numbers if number is not None],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # the signals of a terminal are for the users
    )


def _connected(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(os.fspath(path))
    except BaseException:
        made.close()
        raise
    return made


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX)
    made.bind(os.fspath(path))
    made.listen(128)
    return made


def _own_folder() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "manyhands"
    return Path(tempfile.gettempdir()) / f"manyhands-{os.getuid()}"


def _check(folder: Path) -> None:
    """Make a folder for this user only, or see that it is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not is_own or found.st_mode & 0o077:
        raise PermissionError(
            f"{folder} must be a folder that only this user may use: remove it, or chmod 700"
        )
