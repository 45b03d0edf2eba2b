"""The grid: workloads of every day, each some tenths of a second long in the caller."""

from __future__ import annotations

import random
import socketserver
import sqlite3
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.auto import jobs
from benches.measures.mapping import source_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

__all__ = ["WORKLOADS", "Workload"]


@dataclass(frozen=True)
class Workload:
    """A function and its items.

    Attributes:
        name: what it is called in tables.
        function: called with each item.
        items: makes the items; what they need for as long as they are worked on goes to the stack.
    """

    name: str
    function: Callable[[Any], Any]
    items: Callable[[ExitStack], list[Any]]


class _SlowAnswer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer after as many milliseconds as the path says."""
        time.sleep(float(self.path.rpartition("/")[2]) / 1e3)
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b"x" * 5000)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def _served() -> Iterator[str]:
    """Serve slow answers on the loopback, from a process of its own."""
    import os

    with _Server(("127.0.0.1", 0), _SlowAnswer) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        child = os.fork()
        if not child:
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
            try:
                server.serve_forever()
            finally:
                os._exit(0)
    try:
        yield address
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def _end_with(parent: int) -> None:
    """End this process as soon as its parent has gone."""
    import os

    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _pages(milliseconds: float, count: int) -> Callable[[ExitStack], list[Any]]:
    def items(stack: ExitStack) -> list[Any]:
        return [f"{stack.enter_context(_served())}/{milliseconds}"] * count

    return items


def _database(stack: ExitStack) -> list[Any]:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path = Path(folder, "numbers.db")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, value REAL)")
        connection.executemany(
            "INSERT INTO numbers VALUES (?, ?)", ((each, each / 7) for each in range(20_000))
        )
    connection.close()
    return [str(path)] * 50


def _arrays(_: ExitStack) -> list[Any]:
    import numpy

    return list(numpy.random.default_rng(1).random((200, 100_000)))


def _sources(_: ExitStack) -> list[Any]:
    return source_files(80)


def _just(*items: Any) -> Callable[[ExitStack], list[Any]]:
    return lambda _: list(items)


def _mixed(_: ExitStack) -> list[Any]:
    draw = random.Random(3)
    return [(0.0, 4.0) if draw.random() < 0.8 else (30.0, 1.0) for _ in range(100)]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("Pillow: thumbnails", jobs.thumbnail, _just(*range(40))),
        Workload("JSON documents", jobs.reread, _just(*range(80))),
        Workload("sqlite queries", jobs.query, _database),
        Workload("requests, 20 ms", jobs.get, _pages(20, 50)),
        Workload("requests, 150 ms, few", jobs.get, _pages(150, 8)),
        Workload("request, then compute", jobs.get_and_parse, _pages(10, 30)),
        Workload("NumPy: sort, FFT", jobs.transform, _just(*range(60))),
        Workload("NumPy: array arguments", jobs.middle, _arrays),
        Workload("hashing: PBKDF2", jobs.derive, _just(*range(60))),
        Workload("regular expressions", jobs.find, _just(*range(40))),
        Workload("zlib", jobs.squeeze, _just(*range(40))),
        Workload("parsing sources", jobs.parse, _sources),
        Workload("wait 30 ms, compute 50 ms", jobs.wait_then_compute, _just(*[(30.0, 50.0)] * 16)),
        Workload("some wait, most compute", jobs.wait_then_compute, _mixed),
        Workload("decreasing costs", jobs.spin, _just(*(60 * 0.9**each for each in range(80)))),
        Workload("increasing costs", jobs.spin, _just(*(60 * 0.9 ** (79 - n) for n in range(80)))),
        Workload("tiny items", jobs.tiny, lambda _: list(range(1_000_000))),
        Workload("large results", jobs.large_result, _just(*range(150))),
        Workload("few long items", jobs.spin, _just(200.0, 200.0, 200.0)),
        Workload("little work", jobs.spin, _just(*[0.4] * 150)),
        Workload("other programs", jobs.run_program, _just(*range(40))),
    )
}
