"""FIFOs of the file system that carry messages, between programs that know nothing of each other.

How messages look on the pipe is in `manyhands._queue.netstring`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import threading
import time
from pathlib import Path

from manyhands._interpreter.deadline import deadline_of
from manyhands._interpreter.public import public
from manyhands._pickle import pickling
from manyhands._queue.netstring import Messages, cut

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator
    from typing import Any, Self

__all__ = ["Fifo", "open_fifo"]

_CHUNK = 1 << 16
_FLAGS = {"r": os.O_RDONLY, "w": os.O_WRONLY, "r+": os.O_RDWR}
# Between two looks at what no descriptor tells: whether a reader has come, whether a lock is free.
_LOOK_S = 0.005


def open_fifo(
    path: str | os.PathLike[str],
    mode: str = "r",
    *,
    pickle: bool = False,
    trusted: bool = False,
    timeout: float | None = None,
) -> Fifo:
    """Open a POSIX FIFO that carries messages, and make it if it does not exist.

    Any program can be at the other end: what goes over the pipe are netstrings. Any number of
    programs may write at the same time, and one reads.

    Args:
        path: where the FIFO is or will be, with permissions for this user only.
        mode: ``"r"`` to receive: does not wait, and `recv` raises EOFError once the last writer
            has gone. ``"w"`` to send: waits until somebody receives. ``"r+"`` for both: does not
            wait, and there is no end as long as this one is open.
        pickle: messages are objects, pickled. Whoever can write to the FIFO can then run any code
            in the program that receives. Otherwise messages are bytes.
        trusted: with ``pickle=True``, receive although other users may write to the FIFO or put
            another one in its place.
        timeout: seconds to wait for a reader with mode ``"w"``; None means no limit.

    Raises:
        FileExistsError: there is something else at that path.
        FileNotFoundError, PermissionError: as for any file. PermissionError, too, for receiving
            with ``pickle=True`` where another user may write, unless ``trusted=True``.
        TimeoutError: nobody has opened the FIFO for reading.
        ValueError: another mode than these.

    Example:
        >>> with open_fifo(path, "r+") as fifo:
        ...     fifo.send(b"hello")
        ...     fifo.recv()
        b'hello'
    """
    if mode not in _FLAGS:
        raise ValueError(f"mode must be 'r', 'w' or 'r+', not {mode!r}")
    where = os.path.abspath(os.fspath(path))
    _make(where)
    found = Path(where).stat()
    if not stat.S_ISFIFO(found.st_mode):
        raise FileExistsError(errno.EEXIST, "the path exists and is not a FIFO", where)
    must_be_private = pickle and not trusted and mode != "w"
    if must_be_private:
        # Before it is opened, too: that alone would let a waiting writer go on.
        _check_private(where, found)
    descriptor = _open(where, mode, _Deadline(timeout))
    try:
        opened = os.fstat(descriptor)
        # Another file may have taken its place since.
        if not stat.S_ISFIFO(opened.st_mode):
            raise FileExistsError(errno.EEXIST, "the path exists and is not a FIFO", where)
        if must_be_private:
            _check_private(where, opened)
        return Fifo(where, mode, pickle, descriptor, trusted)
    except BaseException:
        os.close(descriptor)
        raise


def _make(path: str) -> None:
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        error.filename = path  # the only function of os that does not say which
        raise


def _check_private(path: str, fifo: os.stat_result) -> None:
    """Refuses a FIFO that another user may write to or replace; root may do so anyway."""
    folder = os.path.dirname(os.path.realpath(path))
    trusted = (0, os.geteuid())
    holder = Path(folder).stat()
    # The group's bits stand for everybody in an access control list, too.
    others = stat.S_IWGRP | stat.S_IWOTH
    if fifo.st_uid not in trusted:
        reason = f"the FIFO belongs to user {fifo.st_uid}"
    elif fifo.st_mode & others:
        reason = f"its mode is {stat.S_IMODE(fifo.st_mode):04o}: chmod go-w {path}"
    elif holder.st_uid not in trusted:
        reason = f"its folder belongs to user {holder.st_uid}"
    elif holder.st_mode & others and not holder.st_mode & stat.S_ISVTX:
        reason = (
            f"the mode of its folder is {stat.S_IMODE(holder.st_mode):04o}: chmod go-w {folder}"
        )
    else:
        return
    message = (
        f"other users may write to this FIFO, and so run any code in this process ({reason}); "
        "receive bytes, or pass trusted=True if you trust all of them"
    )
    raise PermissionError(errno.EPERM, message, path)


def _open(path: str, mode: str, deadline: _Deadline) -> int:
    while True:
        try:
            return os.open(path, _FLAGS[mode] | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        if deadline.has_passed():
            raise TimeoutError(errno.ETIMEDOUT, "nobody has opened the FIFO for reading", path)
        time.sleep(deadline.at_most(_LOOK_S))


class _Deadline:
    """A moment, or never."""

    def __init__(self, timeout: float | None) -> None:
        self._end = deadline_of(timeout)
        if timeout is not None and timeout < 0:
            raise ValueError("'timeout' must be a non-negative number")

    def has_passed(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def at_most(self, seconds: float) -> float:
        return (
            seconds if self._end is None else max(0.0, min(seconds, self._end - time.monotonic()))
        )

    def milliseconds(self) -> int | None:
        """Return what is left, rounded up, as poll() takes it."""
        return None if self._end is None else int(self.at_most(1e6) * 1000) + 1

    @contextlib.contextmanager
    def hold(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock of this process, if it can be had in time."""
        if not lock.acquire(timeout=-1 if self._end is None else self.at_most(1e6)):
            raise TimeoutError(errno.ETIMEDOUT, "another thread is using this end of the FIFO")
        try:
            yield
        finally:
            lock.release()


@public
class Fifo:
    """An open FIFO that carries messages; see `open_fifo`.

    Its methods may be called from several threads. It is a context manager, iterates over the
    messages until the last writer has closed it, has a `fileno`, and pickles as its path:
    unpickling opens the FIFO again.

    Attributes:
        name: the absolute path.
        mode: ``"r"``, ``"w"`` or ``"r+"``, as `open_fifo` was called.
    """

    def __init__(
        self, path: str, mode: str, pickle: bool, descriptor: int, trusted: bool = False
    ) -> None:
        self.name = path
        self.mode = mode
        self._pickle = pickle
        self._trusted = trusted
        self._descriptor = descriptor
        self._process = os.getpid()
        self._messages = Messages()
        self._receiving = threading.Lock()
        self._sending = threading.Lock()
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    # ------------------------------------------------------------------ the open file

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._descriptor < 0

    @property
    def readable(self) -> bool:
        """Whether messages can be received."""
        return self.mode != "w"

    @property
    def writable(self) -> bool:
        """Whether messages can be sent."""
        return self.mode != "r"

    def fileno(self) -> int:
        """Return the file descriptor; readable when bytes of a message are there."""
        if self._descriptor < 0:
            raise OSError("handle is closed")
        return self._descriptor

    def close(self) -> None:
        """Close this end; the FIFO stays in the file system."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        return f"<manyhands.Fifo {self.name!r} mode={self.mode!r}{state}>"

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (self.name, self.mode, self._pickle, self._trusted))

    # ------------------------------------------------------------------ receiving

    def recv(self, timeout: float | None = None) -> Any:
        """Return the next message: bytes, or an object if opened with ``pickle=True``.

        Args:
            timeout: seconds to wait; None means no limit.

        Raises:
            EOFError: every writer has gone, and there is no message left.
            TimeoutError: no message arrived in time.
            OSError: closed, opened for writing only, or what came is not a message.
        """
        deadline = _Deadline(timeout)
        with deadline.hold(self._receiving):
            while (content := self._next()) is None:
                poller = select.poll()
                poller.register(self.fileno(), select.POLLIN)
                if not poller.poll(deadline.milliseconds()) and deadline.has_passed():
                    raise TimeoutError(errno.ETIMEDOUT, "no message arrived in time", self.name)
        return self._loaded(content)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is a message (or the end), after waiting for one.

        Args:
            timeout: seconds to wait; None means no limit.
        """
        deadline = _Deadline(timeout)
        with deadline.hold(self._receiving):
            self._check(self.readable, "FIFO is write-only")
            while True:
                try:
                    if self._messages.has_one() or self._fill():
                        return True
                except EOFError:
                    return True
                if deadline.has_passed():
                    return False
                poller = select.poll()
                poller.register(self.fileno(), select.POLLIN)
                poller.poll(deadline.milliseconds())

    async def async_recv(self) -> Any:
        """As `recv` without a timeout, in a coroutine: cancel it, or use `asyncio.timeout`.

        Raises:
            RuntimeError: a thread is receiving from the same object.
            EOFError, OSError: as `recv`.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        # A loop calls one reader for a descriptor: coroutines take turns.
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Lock())
        async with self._turns[1]:
            while (content := self._try_next()) is None:
                readable: asyncio.Future[None] = loop.create_future()
                loop.add_reader(self.fileno(), _resolve, readable)
                try:
                    await readable
                finally:
                    loop.remove_reader(self.fileno())
        return self._loaded(content)

    def __iter__(self) -> Iterator[Any]:
        with contextlib.suppress(EOFError):
            while True:
                yield self.recv()

    # `message in fifo` would otherwise receive what it looks at.
    __contains__ = None

    async def __aiter__(self) -> AsyncIterator[Any]:
        with contextlib.suppress(EOFError):
            while True:
                yield await self.async_recv()

    def _try_next(self) -> bytes | None:
        if not self._receiving.acquire(blocking=False):
            raise RuntimeError(f"another thread is receiving from {self.name}")
        try:
            return self._next()
        finally:
            self._receiving.release()

    def _next(self) -> bytes | None:
        """Return the next message, or None if it is not there yet; at the end EOFError."""
        self._check(self.readable, "FIFO is write-only")
        if not self._messages.has_one() and not self._fill():
            return None
        return self._messages.take()

    def _fill(self) -> bool:
        """Read what there is; whether there is a message then. EOFError when all writers went."""
        descriptor = self.fileno()
        while not self._messages.has_one():
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            ready = poller.poll(0)
            if not ready:
                return False
            try:
                chunk = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                return False
            if not chunk:
                # No byte although poll() says so: nobody has it open for writing any more.
                self._messages.end()
                raise EOFError(f"every writer of {self.name} has closed it")
            self._messages.feed(chunk)
        return True

    def _loaded(self, content: bytes) -> Any:
        return pickling.loads(content) if self._pickle else content

    # ------------------------------------------------------------------ sending

    def send(self, message: Any, timeout: float | None = None) -> None:
        """Send one message: bytes, or any object if opened with ``pickle=True``.

        Args:
            message: bytes-like, or an object that can be pickled.
            timeout: seconds to wait for room and for other writers; None means no limit. A message
                that was sent only in part is dropped by the receiver.

        Raises:
            BrokenPipeError: nobody has the FIFO open for reading.
            TimeoutError: there was no room in time.
            TypeError: not bytes-like; with ``pickle=True``, as pickle does.
            OSError: closed, or opened for reading only.
        """
        parts = self._parts(message)
        deadline = _Deadline(timeout)
        with deadline.hold(self._sending):
            while not self._try_lock(parts):
                self._check_time(deadline)
                time.sleep(deadline.at_most(_LOOK_S))
            try:
                for part in parts:
                    while not self._try_write(part):
                        poller = select.poll()
                        poller.register(self.fileno(), select.POLLOUT)
                        if not poller.poll(deadline.milliseconds()):
                            self._check_time(deadline)
            finally:
                self._unlock()

    async def async_send(self, message: Any) -> None:
        """As `send` without a timeout, in a coroutine.

        If it is cancelled, what was sent of the message is dropped by the receiver.
        """
        import asyncio

        parts = self._parts(message)
        loop = asyncio.get_running_loop()
        while not self._sending.acquire(blocking=False):
            await asyncio.sleep(_LOOK_S)
        try:
            while not self._try_lock(parts):
                await asyncio.sleep(_LOOK_S)
            try:
                for part in parts:
                    while not self._try_write(part):
                        writable: asyncio.Future[None] = loop.create_future()
                        loop.add_writer(self.fileno(), _resolve, writable)
                        try:
                            await writable
                        finally:
                            loop.remove_writer(self.fileno())
            finally:
                self._unlock()
        finally:
            self._sending.release()

    def _parts(self, message: Any) -> list[bytes]:
        self._check(self.writable, "FIFO is read-only")
        if self._pickle:
            return cut(pickling.dumps_in_band(message, "message"))
        try:
            return cut(memoryview(message).cast("B"))
        except TypeError:
            kind = type(message).__name__
            raise TypeError(
                f"a FIFO carries bytes, not {kind}; open it with pickle=True for other objects"
            ) from None

    def _try_lock(self, parts: list[bytes]) -> bool:
        if os.getpid() != self._process:
            self._part_from_parent()
        how = fcntl.LOCK_SH if len(parts) == 1 else fcntl.LOCK_EX
        try:
            fcntl.flock(self.fileno(), how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _part_from_parent(self) -> None:
        """After a fork: open the file again, because a lock belongs to the *open* file."""
        descriptor = self.fileno()
        flags = _FLAGS[self.mode] | os.O_NONBLOCK | os.O_CLOEXEC
        own = os.open(f"/proc/self/fd/{descriptor}", flags)
        os.dup2(own, descriptor, inheritable=False)
        os.close(own)
        self._process = os.getpid()

    def _unlock(self) -> None:
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _try_write(self, part: bytes) -> bool:
        """Write all of a part, or nothing: it is not longer than PIPE_BUF."""
        try:
            os.write(self.fileno(), part)
        except BlockingIOError:
            return False
        return True

    def _check_time(self, deadline: _Deadline) -> None:
        if deadline.has_passed():
            raise TimeoutError(
                errno.ETIMEDOUT, "there was no room for the message in time", self.name
            )

    def _check(self, allowed: bool, complaint: str) -> None:
        self.fileno()
        if not allowed:
            raise OSError(complaint)


def _reopen(path: str, mode: str, pickle: bool, trusted: bool) -> Fifo:
    return open_fifo(path, mode, pickle=pickle, trusted=trusted)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
