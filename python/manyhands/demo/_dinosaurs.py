"""A server that holds records of dinosaurs in memory, and clients that look them up at once."""

from __future__ import annotations

import csv
import json
import threading
from contextlib import contextmanager
from importlib.resources import files
from importlib.util import find_spec
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from manyhands._server.server import Server
from manyhands.demo._program import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["SERVING_KINDS", "look_up", "names_of_clients", "serve_clients"]

# Seconds that a client needs before it asks, as one that is so far away.
CLIENT_PAUSE: Final = 0.005

# The options of a server for each kind of worker.
SERVING_KINDS: Final[dict[str, dict[str, Any]]] = {
    "sequential": {"workers": "thread", "max_workers": 1},
    "thread": {"workers": "thread"},
    "process": {"workers": "process"},
    "coroutine": {"workers": "coroutine"},
}
if find_spec("greenlet") is not None:
    SERVING_KINDS["greenlet"] = {"workers": "greenlet"}

_LINES: Final = (files("manyhands.demo") / "dinosaurs.csv").read_text("utf-8").splitlines()
_DINOSAURS: Final = {row["name"].lower(): row for row in csv.DictReader(_LINES)}


def look_up(line: bytes) -> bytes:
    """Return the record of the dinosaur of this name, as JSON: what the demo's server does.

    Example:
        >>> manyhands.demo.look_up(b"Baryonyx")
        b'{"name": "Baryonyx", "period": "Early Cretaceous", ...}'
    """
    name = line.decode(errors="replace").strip().lower()
    return json.dumps(_DINOSAURS.get(name, {"error": f"no dinosaur is called {name!r}"})).encode()


def names_of_clients(clients: int, look_ups: int) -> list[list[str]]:
    """Return what each client asks for."""
    names = [*_DINOSAURS, "unicorn"]
    return [
        [names[(at + client) % len(names)] for at in range(look_ups)] for client in range(clients)
    ]


def serve_clients(
    kind: str,
    clients: Sequence[list[str]],
    workers: int | None,
    progress: Callable[[int, int | None], None],
) -> tuple[list[str], float]:
    """Serve clients with one kind of worker.

    Args:
        kind: one of `SERVING_KINDS`.
        clients: what each asks for.
        workers: how many threads or processes there are at most; None leaves it to the server.
        progress: told how many clients have all answers, and how many there are.

    Returns:
        For each client a checksum of its answers, and the seconds that all took.
    """
    options = SERVING_KINDS[kind]
    if kind in ("thread", "process"):
        options = options | {"max_workers": workers}
    with Program("_client_program.py", str(CLIENT_PAUSE)) as program, _served(options) as port:
        program.told()
        results = [""] * len(clients)
        started = perf_counter()
        program.tell(json.dumps([port, clients]))
        for done in range(len(clients)):
            number, checksum = program.told().split()
            results[int(number)] = checksum
            progress(done + 1, len(clients))
        return results, perf_counter() - started


@contextmanager
def _served(options: dict[str, Any]) -> Iterator[int]:
    """Serve look-ups during a block; yields the port."""
    with Server(("127.0.0.1", 0), look_up, framing="lines", **options) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            serving.join()
