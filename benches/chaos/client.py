"""Clients that ask for one thing after the other, and say how each request ended."""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benches.chaos.application import WORD
from benches.chaos.tally import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benches.chaos.tally import Tally

HOST = "127.0.0.1"
CLIENTS = 12
# How long a client waits for anything.
PATIENCE_S = 10.0
# How long it does nothing between two requests, at most.
LONGEST_PAUSE_S = 0.05
# After how many requests a kept connection is closed by its client, at most: else one that has been
# opened while there was one worker would be that worker's for good.
MOST_KEPT = 20

# How a connection that could not be made has failed, if nobody has refused it.
_NOT_CONNECTED = {TimeoutError: Failure.LATE, ConnectionResetError: Failure.RESET}

_CLOSE = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_KEEP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class _Broken(Exception):
    """The request has failed."""

    def __init__(self, how: Failure) -> None:
        super().__init__(how)
        self.how = how


class _Connection:
    """A connection of a client."""

    def __init__(self, port: int) -> None:
        self.opened = time.monotonic()
        self.port = 0
        self.asked = 0
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_S)
        try:
            self._socket.connect((HOST, port))
        except OSError as error:
            self.close()
            raise _Broken(_NOT_CONNECTED.get(type(error), Failure.REFUSED)) from error
        self.port = self._socket.getsockname()[1]

    def ask(self, request: bytes) -> bytes:
        """Return the answer."""
        self.asked += 1
        answer = b""
        try:
            self._socket.sendall(request)
            while not _is_whole(answer):
                part = self._socket.recv(4096)
                if not part:
                    raise _Broken(self._broken(answer, Failure.EMPTY))
                answer += part
        except TimeoutError as error:
            raise _Broken(Failure.LATE) from error
        except OSError as error:
            raise _Broken(self._broken(answer, Failure.RESET)) from error
        return answer

    def _broken(self, answer: bytes, unanswered: Failure) -> Failure:
        if answer:
            return Failure.CUT
        return Failure.OVERTAKEN if self.asked > 1 else unanswered

    def is_closed(self) -> bool:
        """Tell whether the server has closed it, or says what it was not asked for."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        """Close it."""
        self._socket.close()


class Client:
    """Asks until it is told to stop.

    Args:
        port: where the server listens.
        keeps: whether connections are kept for more requests, or a new one is made for each.
        tally: gets what has come of each request.
    """

    def __init__(self, port: int, keeps: bool, tally: Tally) -> None:
        self._port = port
        self._keeps = keeps
        self._tally = tally
        self._connection: _Connection | None = None

    def run(self, stop: threading.Event) -> None:
        """Ask until `stop` is set."""
        while not stop.wait(random.uniform(0.0, LONGEST_PAUSE_S)):
            self._ask()
        self._close()

    def _ask(self) -> None:
        began = time.monotonic()
        connection = self._connection
        if connection is not None and connection.is_closed():
            self._close()
        try:
            connection = self._connection = self._connection or _Connection(self._port)
            answer = connection.ask(_KEEP if self._keeps else _CLOSE)
            self._tally.answer(_worker(answer), began)
        except _Broken as broken:
            # Of a connection that could not be made there is no port, and it is no worker's.
            connection = self._connection
            port, opened = (connection.port, connection.opened) if connection else (0, began)
            self._tally.fail(broken.how, port, opened)
            self._close()
            return
        says_close = b"\r\nconnection: close\r\n" in answer.lower()
        if says_close or not self._keeps or connection.asked >= random.randint(1, MOST_KEPT):
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    # The servers write the name of this header in different ways.
    length = head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0]
    if not length.strip().isdigit():
        raise _Broken(Failure.WRONG)
    return len(body) >= int(length)


def _worker(answer: bytes) -> int:
    """Return which process says so."""
    head, _, body = answer.partition(b"\r\n\r\n")
    word, _, number = body.partition(b" ")
    if not head.startswith(b"HTTP/1.1 200 ") or word != WORD or not number.strip().isdigit():
        raise _Broken(Failure.WRONG)
    return int(number)


@contextmanager
def clients(port: int, keeps: bool, tally: Tally) -> Iterator[None]:
    """Have clients ask while the block runs."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=Client(port, keeps, tally).run, args=(stop,))
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
