"""Pipes: two ends between which messages go, within a process or between two."""

from __future__ import annotations

import io
import os

from manyhands import _native
from manyhands._interpreter.public import public
from manyhands._pickle.keep import keep_for_child
from manyhands._sync.wake_socket import attempt_until

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any, Self

    from typing_extensions import TypeVar

    Sent = TypeVar("Sent", default=Any)
    Received = TypeVar("Received", default=Any)
else:
    Sent = Received = object  # what is in brackets below says something to type checkers only

__all__ = ["Connection", "Pipe"]

_NOTHING = object()

os.register_at_fork(
    before=_native.reserve_ends_for_child,
    after_in_parent=_native.forget_heirs_in_parent,
    after_in_child=_native.adopt_ends_in_child,
)


def Pipe(duplex: bool = True, *, name: str | None = None) -> tuple[Connection, Connection]:
    """Make a pipe, as `multiprocessing.Pipe`.

    Args:
        duplex: whether both ends send and receive. Otherwise the first only receives and the
            second only sends.
        name: makes it one pipe for all processes of this user that give the same name. All of them
            get both ends: agree on who uses which, and close the other one once somebody else has
            it. The pipe is gone when none of them has an end any more.

    Returns:
        the two ends. Give one to another process or task, or keep both for two threads.

    Raises:
        ValueError: what has that name is no such pipe, or another one as to ``duplex``.
        MemoryError, OSError: there is no shared memory, or no descriptor.

    Example:
        >>> here, there = mh.Pipe()
        >>> here.send({"work": 1})
        >>> there.recv()
        {'work': 1}
    """
    return _native.make_pipe(Connection, duplex, name)


def _bytes_of(buf: Any) -> memoryview:
    """Return the bytes of a bytes-like object in their order, whatever their format."""
    view = memoryview(buf)
    if view.nbytes == 0:
        return memoryview(b"")
    if view.itemsize == 1 and not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _is_end(error: EOFError) -> bool:
    """Say whether the other end has gone; what a message raises when it is unpickled says more."""
    return not error.args


@public
class Connection(_native.ConnectionBase[Sent, Received]):
    """One end of a pipe, with the interface of `multiprocessing.connection.Connection`.

    It is shared with processes of every start method and with tasks as an argument, with forked
    ones by inheritance. An end is open as long as a living process has it open: when the last one
    has closed it or died, the other end receives what was sent before, and then `recv` raises
    EOFError and `send` BrokenPipeError.

    A message waits in shared memory, and sending waits when about 16 MiB are on the way; a longer
    message goes when it is alone.
    Several threads and processes may use one end; each message is received once.

    ``for message in connection`` and ``async for`` receive until the end. In annotations
    ``Connection[Question, Answer]`` is an end that sends questions and receives answers.
    """

    def __iter__(self) -> Iterator[Received]:
        try:
            while True:
                yield self.recv()
        except EOFError as error:
            if not _is_end(error):
                raise

    # `message in connection` would otherwise receive what it looks at.
    __contains__ = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        keep_for_child(self._segment())
        return (type(self), self._address())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ways = "receives" * self.readable + " and " * (self.readable and self.writable)
        ways += "sends" * self.writable
        name = f"name={self.name!r} " if self.name else ""
        state = "closed" if self.closed else ways
        return f"<manyhands.Connection {name}{state} at {id(self):#x}>"

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is something to receive, or the end.

        Args:
            timeout: seconds to wait for it; None means no limit.

        Raises:
            OSError: closed, or only for sending.
        """
        return self._poll(timeout)

    # ------------------------------------------------------------------ bytes

    def send_bytes(self, buf: Any, offset: int = 0, size: int | None = None) -> None:
        """Send bytes as one message.

        Args:
            buf: a bytes-like object.
            offset: where in it the message begins.
            size: its length; None means up to the end.

        Raises:
            ValueError: the message does not lie inside ``buf``.
            BufferError, TypeError: ``buf`` is not contiguous.
            BrokenPipeError: nobody has the other end open.
            OSError: closed, or only for receiving.
        """
        if offset == 0 and size is None and type(buf) is bytes:
            self._send_bytes(buf)
            return
        if self.closed or not self.writable:
            self._send_bytes(b"")  # raises, and says why
        view = _bytes_of(buf)
        length = view.nbytes
        if offset < 0:
            raise ValueError("offset is negative")
        if length < offset:
            raise ValueError("buffer length < offset")
        if size is None:
            size = length - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > length:
            raise ValueError("buffer length < offset + size")
        self._send_bytes(view[offset : offset + size])

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive a message as bytes.

        Args:
            maxlength: the most bytes that are acceptable. A longer message makes the end unusable,
                as in the standard library.

        Raises:
            EOFError: nobody has the other end open, and everything has been received.
            OSError: closed, only for sending, or the message is longer than ``maxlength``.
        """
        if maxlength is not None and maxlength < 0:
            self._poll(0)  # raises, where that is the first mistake
            raise ValueError("negative maxlength")
        received = self._recv_bytes(maxlength)
        if received is None:
            self.close()
            raise OSError("bad message length")
        return received

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive a message into a writable bytes-like object.

        Args:
            buf: where to write it.
            offset: where in it to begin, in bytes.

        Returns:
            the length of the message in bytes.

        Raises:
            multiprocessing.BufferTooShort: it does not fit; the error's argument is the message.
            ValueError: ``offset`` is outside ``buf``.
            EOFError, OSError: as `recv_bytes`.
        """
        with memoryview(buf) as view:
            size = view.itemsize * len(view)
            if offset < 0:
                raise ValueError("negative offset")
            if offset > size:
                raise ValueError("offset too large")
            message = self.recv_bytes()
            if size < offset + len(message):
                from multiprocessing.context import BufferTooShort

                raise BufferTooShort(message)
            first = offset // view.itemsize
            last = (offset + len(message)) // view.itemsize
            return io.BytesIO(message).readinto(view[first:last])

    # ------------------------------------------------------------------ coroutines

    async def async_recv(self, timeout: float | None = None) -> Received:
        """Receive an object, without blocking the event loop.

        Args:
            timeout: seconds to wait; None means no limit.

        Raises:
            TimeoutError: nothing came in time.
            EOFError, OSError: as `recv`.
        """

        def attempt() -> tuple[Received] | None:
            item: Received = self._recv_or(_NOTHING)
            return None if item is _NOTHING else (item,)

        received = await attempt_until(attempt, self._enlist_for_messages, timeout)
        if received is None:
            raise TimeoutError("no message arrived in time")
        return received[0]

    async def async_send(self, obj: Sent, timeout: float | None = None) -> None:
        """Send an object, without blocking the event loop.

        Args:
            obj: what to send.
            timeout: seconds to wait for room; None means no limit.

        Raises:
            TimeoutError: there was no room in time.
            BrokenPipeError, OSError: as `send`.
        """
        # Pickled once and now, however often it has to be tried.
        packed = self._send_or_pack(obj)
        if packed is None:
            return

        def attempt() -> bool | None:
            return self._send_packed(packed) or None

        if await attempt_until(attempt, self._enlist_for_room, timeout) is None:
            raise TimeoutError("there was no room for the message in time")

    async def __aiter__(self) -> AsyncIterator[Received]:
        try:
            while True:
                yield await self.async_recv()
        except EOFError as error:
            if not _is_end(error):
                raise
