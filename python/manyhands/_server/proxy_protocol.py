"""The clients of proxies that connect to a server: known by the PROXY headers that these send."""

from __future__ import annotations

import errno
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manyhands._native import StreamReader, StreamWriter
    from manyhands._server.stream_socket import StreamSocket

__all__ = ["NotProxied", "ProxyProtocol"]


class NotProxied(Exception):
    """A connection that no trusted proxy has made, or that has no PROXY header.

    Args:
        reason: why, in words that follow the address of the peer.
        level: how to log it.
    """

    def __init__(self, reason: str, level: int = logging.WARNING) -> None:
        super().__init__(reason)
        self.level = level


class ProxyProtocol:
    """Learns from proxies for whom they have connected.

    Args:
        trusted: the proxies: addresses, networks, ``"unix"`` and ``"*"``, as a list or as one text
            with commas between them.

    Raises:
        ValueError: one of them is none of these.
        TypeError: it is neither a text nor a list.
    """

    def __init__(self, trusted: str | Iterable[object]) -> None:
        if isinstance(trusted, bool) or not hasattr(trusted, "__iter__"):
            raise TypeError(
                f"proxy_protocol={trusted!r} must name the proxies that are trusted, such as "
                "'10.0.0.0/8,unix', or '*' for all"
            )
        # Plain text, which processes can be sent.
        self.peers = trusted if isinstance(trusted, str) else ",".join(map(str, trusted))
        try:
            self._trusted = _native.TrustedPeers(self.peers)
        except ValueError as error:
            raise ValueError(f"proxy_protocol: {error}") from None
        self._stranger_seen = False

    def client(self, connection: StreamSocket, peer: Any) -> Any:
        """Read the header of a connection, within the time-out of its socket.

        Args:
            connection: that has just been accepted.
            peer: the address of its other end.

        Returns:
            The address of the proxy's client; that of the peer if the proxy has connected for
            itself, as to see whether the server lives.

        Raises:
            NotProxied: it must not be served.
        """
        with _explained(connection.gettimeout()):
            self._check(connection.fileno())
            client = connection.read_proxy_header()
        return peer if client is None else client

    async def introduce(self, reader: StreamReader, writer: StreamWriter, timeout: float) -> None:
        """Read the header of a connection in an event loop: its writer has the client's address.

        Args:
            reader: what its other end says.
            writer: what that is told.
            timeout: how many seconds the header may take.

        Raises:
            NotProxied: it must not be served.
        """
        import asyncio  # which threads can do without

        with _explained(timeout):
            self._check(writer.fileno())
            async with asyncio.timeout(timeout):
                await reader.read_proxy_header()

    def _check(self, connection: int) -> None:
        """Refuse a connection of a peer that is not trusted: raise `NotProxied`."""
        if connection < 0:
            raise ConnectionAbortedError("it has been closed meanwhile")
        if not self._trusted.trusts(connection):
            raise self._stranger()

    def _stranger(self) -> NotProxied:
        # Anybody can connect, and must not be able to fill the log.
        level = logging.DEBUG if self._stranger_seen else logging.WARNING
        self._stranger_seen = True
        return NotProxied(
            f"it is not among the proxies that are trusted ({self.peers}); others are refused "
            "silently from now on",
            level,
        )


@contextmanager
def _explained(timeout: float | None) -> Iterator[None]:
    """Turn what goes wrong with a header into `NotProxied`."""
    try:
        yield
    except TimeoutError:
        text = f"it has not sent a whole PROXY header within {timeout:g} s"
        raise NotProxied(text) from None
    except OSError as error:
        # Whoever only looks whether the server is there says nothing, time and again.
        gone = isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN
        raise NotProxied(f"{error}", logging.DEBUG if gone else logging.WARNING) from None
