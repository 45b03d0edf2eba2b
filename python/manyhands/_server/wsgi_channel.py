"""Connections of waitress, as it calls them: channels."""

from __future__ import annotations

import ssl
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel

from manyhands._server.http_process import UNDER_WAY_S
from manyhands._server.thread_workers import say_that_it_is_all

if TYPE_CHECKING:
    import socket

__all__ = ["Channel", "TlsChannel"]

# What a request says, as waitress keeps it, whose connection ends with the response.
CONNECTION = "CONNECTION"


class NothingYet(Exception):
    """TLS has got less than a record."""


class Channel(HTTPChannel):  # type: ignore[misc] # waitress has no types
    """A connection that can be asked to end with the response that is being made, if any.

    Its loop calls everything but `service`, which a thread of waitress calls.
    """

    answered = 0

    def service(self) -> None:
        """Answer a request."""
        if not self.server.accepting:
            self.end_with_response()
        super().service()
        self.answered += 1
        self.server.process.note_answer()

    def end_with_response(self) -> None:
        """Have the response of the request that is being served say that it is the last."""
        with suppress(IndexError):  # it has just ended
            self.requests[0].headers[CONNECTION] = "close"

    def is_idle(self) -> bool:
        """Tell whether the client has its answer, or has said nothing for so long."""
        if self.requests or self.request is not None or self.total_outbufs_len:
            return False
        return bool(self.answered or time.time() - self.creation_time > UNDER_WAY_S)

    def is_late(self) -> bool:
        """Tell whether its client has taken too long to begin."""
        return False


class TlsChannel(Channel):
    """A connection with TLS, which waitress itself has not."""

    def __init__(self, server: Any, sock: socket.socket, *more: Any, **options: Any) -> None:
        sock.setblocking(False)
        wrapped = server.process.tls.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        )
        self._shakes_hands = True
        # OpenSSL reads and writes the same state, and waitress writes in other threads, too.
        self._using = threading.RLock()
        super().__init__(server, wrapped, *more, **options)

    def is_idle(self) -> bool:
        """As `Channel.is_idle`; not in the middle of a handshake."""
        return not self._shakes_hands and super().is_idle()

    def is_late(self) -> bool:
        """As `Channel.is_late`."""
        timeout = self.server.process.handshake_timeout
        return self._shakes_hands and time.time() - self.creation_time > timeout

    def handle_read(self) -> None:
        """Go on with the handshake, or read."""
        with suppress(NothingYet):
            super().handle_read()

    def recv(self, buffer_size: int) -> bytes:
        """Read a whole record: of what OpenSSL keeps back, nobody would hear."""
        received = b""
        try:
            with self._using:
                if self._shakes_hands:
                    self.socket.do_handshake()
                    self._shakes_hands = False
                received = self.socket.recv(buffer_size)
                while received and (more := self.socket.pending()):
                    received += self.socket.recv(more)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise NothingYet from None
        except OSError:
            pass  # it has ended
        if not received:
            self.handle_close()
        return received

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send what there is room for."""
        try:
            with self._using:
                return int(self.socket.send(data))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError:
            # Not under the lock: others wait for it who have the one that closing takes.
            if do_close:
                self.handle_close()
            return 0

    def handle_close(self) -> None:
        """Close, and say that what has been sent was not cut off."""
        if self._shakes_hands:
            self._shakes_hands = False
            self.server.process.note_disconnected()
        elif self.connected:
            with self._using:
                say_that_it_is_all(self.socket)
        super().handle_close()
