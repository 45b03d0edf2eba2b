"""The socket of a connection that a greenlet serves: it waits by switching to the event loop."""

from __future__ import annotations

import errno
import io
import os
import socket
from typing import TYPE_CHECKING, Any

from manyhands._coroutine.greenlets import await_, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typing_extensions import Buffer

    from manyhands._native import StreamReader, StreamWriter
    from manyhands._server.served_loop import ServeStreams

__all__ = ["GreenletSocket", "served_by_greenlets"]


class GreenletSocket:
    """What a handler in blocking style needs of a connected socket.

    One greenlet at a time may receive. Time-outs are those of `settimeout`; there is no descriptor
    to be read or written past it.

    Args:
        reader: what the client says.
        writer: what the client is told.
    """

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer: Any = writer
        self._timeout: float | None = socket.getdefaulttimeout()
        # Whether it has said that nothing more will come.
        self._is_shut = False

    def __enter__(self) -> GreenletSocket:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As `socket.socket.recv`, without flags."""
        _refuse_flags(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        data: bytes = self._wait(self._reader.read(bufsize))
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """As `socket.socket.recv_into`, without flags."""
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """As `socket.socket.sendall`, without flags: waits for a client that does not keep up."""
        _refuse_flags(flags)
        if self._writer.is_closing():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._is_shut:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self._writer.write(data)
        self._wait(self._writer.drain())

    def send(self, data: Buffer, flags: int = 0) -> int:
        """As `socket.socket.send`, without flags; of all bytes."""
        self.sendall(data, flags)
        return memoryview(data).nbytes

    def makefile(
        self, mode: str = "r", buffering: int | None = None, **options: Any
    ) -> io.RawIOBase | io.BufferedIOBase | io.TextIOWrapper:
        """As `socket.socket.makefile`."""
        raw = _Stream(self, mode)
        if buffering == 0 and "b" in mode:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering in (None, -1) else buffering or 1
        buffered: Any
        if raw.readable() and raw.writable():
            buffered = io.BufferedRWPair(raw, raw, size or 1)
        elif raw.writable():
            buffered = io.BufferedWriter(raw, size or 1)
        else:
            buffered = io.BufferedReader(raw, size or 1)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, **options)

    def settimeout(self, value: float | None) -> None:
        """As `socket.socket.settimeout`, but for 0: nothing here fails since it would wait."""
        if value is not None and value <= 0:
            raise ValueError(f"a greenlet waits by switching: its time-out cannot be {value!r}")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """As `socket.socket.gettimeout`."""
        return self._timeout

    def setsockopt(self, *_option: Any) -> None:
        """Accept what servers set; small pieces are sent at once already."""

    def getpeername(self) -> Any:
        """Return the address of the client."""
        return self._writer.get_extra_info("peername")

    def shutdown(self, how: int) -> None:
        """As `socket.socket.shutdown`; of both directions, or of what is sent."""
        if how == socket.SHUT_WR and self._writer.can_write_eof():
            self._is_shut = True
            self._writer.write_eof()
        elif how == socket.SHUT_RDWR:
            self.close()

    def close(self) -> None:
        """Close the connection once what was sent has gone."""
        self._writer.close()

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        if self._timeout is None:
            return await_(awaitable)
        import asyncio

        # Its own error is that of sockets, too, from Python 3.11 on.
        return await_(asyncio.wait_for(awaitable, self._timeout))


class _Stream(io.RawIOBase):
    """A file of a connection; closing it does not close that."""

    def __init__(self, connection: GreenletSocket, mode: str) -> None:
        if not set(mode) <= set("rwb"):
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        self._connection = connection
        self._writes = "w" in mode
        self._reads = "r" in mode or not self._writes

    def readable(self) -> bool:
        return self._reads

    def writable(self) -> bool:
        return self._writes

    def readinto(self, buffer: Any) -> int:
        return self._connection.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._connection.send(data)


def served_by_greenlets(serve: Callable[[Any, Any, Any], object], server: object) -> ServeStreams:
    """Return how event loops serve a connection with a handler that is in blocking style.

    Args:
        serve: what threads would call: with a socket, the client's address and the server.
        server: the server.
    """

    async def serve_streams(reader: StreamReader, writer: StreamWriter) -> None:
        connection = GreenletSocket(reader, writer)
        await run(serve, connection, writer.get_extra_info("peername"), server)

    return serve_streams


def _refuse_flags(flags: int) -> None:
    if flags:
        raise ValueError(f"sockets of greenlets know no flags, such as {flags}")
