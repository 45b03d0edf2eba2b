"""The four jobs: functions of one item that run in any kind of worker, and a server."""

from __future__ import annotations

import ast
import re
import socket
import zlib
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import manyhands as mh
from manyhands.demo._dinosaurs import SERVING_KINDS, names_of_clients, serve_clients
from manyhands.demo._pages import PageServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack
    from typing import TypeAlias

    from manyhands.demo._sources import Sources

    # Told how many items of a run are done, and how many there are.
    Progress: TypeAlias = Callable[[int, int | None], None]

__all__ = [
    "JOBS",
    "Amounts",
    "Compressed",
    "Job",
    "Page",
    "Parsed",
    "compress",
    "fetch",
    "mapped",
    "parse",
]

# Seconds after which the local server answers.
PAGE_DELAY: Final = 0.020

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_SIZE: Final = re.compile(rb"(?i)\r\nContent-Length: *(\d+) *(?:\r|$)")


class Parsed(NamedTuple):
    """What a source file holds: counts of definitions (of functions and classes) and of names."""

    definitions: int
    names: int


class Compressed(NamedTuple):
    """Sizes in bytes before and after compression, and the CRC-32 of the compressed bytes."""

    before: int
    after: int
    crc32: int


class Page(NamedTuple):
    """An HTTP status, and size in bytes and CRC-32 of what came with it."""

    status: int
    size: int
    crc32: int


def parse(path: str) -> Parsed:
    """Parse the source file at `path` and count what it holds: Python's own work, under the GIL.

    Raises:
        OSError, SyntaxError: the file cannot be read, or is not Python.

    Example:
        >>> mh.map(manyhands.demo.parse, [ast.__file__], workers="process")
        [Parsed(definitions=229, names=2869)]
    """
    with open(path, "rb") as file:
        tree = _tree(file.read(), path)
    definitions = names = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names += 1
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions += 1
    return Parsed(definitions, names)


def _tree(source: bytes, path: str) -> ast.Module:
    """Parse, again if another thread got in the way.

    Older CPythons count how deep they are in a tree once for all threads of an interpreter, and
    complain when two threads that build trees have confused the count.
    """
    while True:
        try:
            return ast.parse(source, path)
        except SystemError as error:
            if "recursion depth mismatch" not in str(error):
                raise


def compress(paths: Sequence[str]) -> Compressed:
    """Compress the files at `paths` together, zlib level 6: native code that releases the GIL.

    Raises:
        OSError: a file cannot be read.
    """
    contents = []
    for path in paths:
        with open(path, "rb") as file:
            contents.append(file.read())
    content = b"".join(contents)
    packed = zlib.compress(content, 6)
    return Compressed(len(content), len(packed), zlib.crc32(packed))


def fetch(url: str) -> Page:
    """Get the page at the http `url` over a connection of its own: waiting, for the most part.

    Raises:
        OSError: there is no answer.
        ValueError: the answer is no HTTP, or not the whole of it.
    """
    # http.client's answers have finalisers written in Python: they complain when Ctrl-C comes as
    # one is made, and lose it when it comes as one runs.
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n"
    where = parts.hostname or "localhost", parts.port or 80
    # Not by create_connection, which imports a codec for names at its first call.
    with socket.socket() as connection:
        connection.settimeout(30)
        connection.connect(where)
        connection.sendall(request.encode("ascii"))
        answer = b"".join(iter(partial(connection.recv, 65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, size = _STATUS.match(head), _SIZE.search(head)
    if status is None or (size is not None and int(size[1]) != len(body)):
        raise ValueError(f"{url} was not answered completely: {len(answer)} bytes, {head[:80]!r} …")
    return Page(int(status[1]), len(body), zlib.crc32(body))


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each job is done; fixed, so that times compare between machines.

    Attributes:
        files: source files that are worked on.
        parses: how many times each is parsed.
        bundle: source files that are compressed together.
        compressions: how many times each bundle is compressed.
        pages: pages that are fetched.
        clients: clients that are served.
        look_ups: what each of them asks for.
    """

    files: int
    parses: int
    bundle: int
    compressions: int
    pages: int
    clients: int
    look_ups: int


class Job(NamedTuple):
    """One kind of work.

    Attributes:
        name: what it is called on the command line.
        description: what it does, and what that means for workers.
        items: makes the items; what they need for as long as they are worked on goes to the stack.
        run: called with a kind of worker, the items, how many workers there are, and what is told
            of progress; returns the results, and the seconds that these took.
        kinds: the kinds of workers that it is run in, ``sequential`` first.
        tasks: says how many tasks there are in the items.
    """

    name: str
    description: str
    items: Callable[[Sources, Amounts, ExitStack], list[Any]]
    run: Callable[[Any, list[Any], int | None, Progress], tuple[list[Any], float]]
    kinds: tuple[str, ...] = ("sequential", "thread", "process", "auto")
    tasks: Callable[[list[Any]], int] = len


def mapped(function: Callable[[Any], object]) -> Callable[..., tuple[list[Any], float]]:
    """Return what runs a job by calling a function with each item."""

    def run(
        kind: Any, items: list[Any], workers: int | None, progress: Progress
    ) -> tuple[list[Any], float]:
        started = perf_counter()
        if kind == "sequential":
            results = []
            for item in items:
                results.append(function(item))
                progress(len(results), len(items))
        else:
            results = mh.map(function, items, workers=kind, max_workers=workers, progress=progress)
        return results, perf_counter() - started

    return run


def _files(sources: Sources, amounts: Amounts, _: ExitStack) -> list[Any]:
    return list(sources.paths) * amounts.parses


def _bundles(sources: Sources, amounts: Amounts, _: ExitStack) -> list[Any]:
    starts = range(0, len(sources.paths), amounts.bundle)
    return [sources.paths[at : at + amounts.bundle] for at in starts] * amounts.compressions


def _urls(_: Sources, amounts: Amounts, stack: ExitStack) -> list[Any]:
    server = stack.enter_context(PageServer(PAGE_DELAY))
    return [f"{server.url}/page/{number}" for number in range(amounts.pages)]


def _clients(_: Sources, amounts: Amounts, __: ExitStack) -> list[Any]:
    return names_of_clients(amounts.clients, amounts.look_ups)


JOBS: Final = {
    job.name: job
    for job in (
        Job("parse", "ast.parse: computes under the GIL", _files, mapped(parse)),
        Job("compress", "zlib: native code without the GIL", _bundles, mapped(compress)),
        Job("fetch", "answers come after 20 ms: waits", _urls, mapped(fetch)),
        Job(
            "serve",
            "look-ups for clients 5 ms away",
            _clients,
            serve_clients,
            tuple(SERVING_KINDS),
            lambda clients: sum(map(len, clients)),
        ),
    )
}
