"""Servers that serve in a thread of a test, and clients of them."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from eventually import eventually
from serving import ask

WAIT_S = 30.0
# No test waits for so long: what is looked at so seldom is not looked at.
NEVER_S = 100_000.0
LOCALHOST = ("127.0.0.1", 0)

Server = TypeVar("Server", bound=socketserver.BaseServer)


class Echo(socketserver.StreamRequestHandler):
    """Answers each line with the same line."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@contextmanager
def served(server: Server, poll_interval: float = NEVER_S) -> Iterator[Server]:
    """Have a thread serve for the length of a block; it must end by itself after `shutdown`."""
    thread = threading.Thread(target=server.serve_forever, args=(poll_interval,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(WAIT_S)
        server.server_close()
        assert not thread.is_alive()


def answer(server: Any, line: bytes = b"hello\n") -> bytes:
    """Return what a server answers to a line, before it closes the connection."""
    return ask(server, line)


def sleeps_in_poll(thread: int) -> bool:
    """Whether that thread of this process waits for descriptors."""
    try:
        with open(f"/proc/self/task/{thread}/wchan") as file:
            return "poll" in file.read()
    except OSError:
        return False


def wait_until_it_polls(thread: threading.Thread) -> None:
    """Return when a thread that serves has nothing to do."""
    eventually(lambda: thread.native_id and sleeps_in_poll(thread.native_id), "the thread serves")


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
