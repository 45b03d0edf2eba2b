"""A server that holds records of dinosaurs in memory, and many clients that look them up at once.

A client sends names, a line each, and gets the record of each as a line of JSON.
"""

import csv
import json
import socket
import sys
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from socketserver import StreamRequestHandler
from typing import Any

import manyhands as mh
from manyhands.server import Server

with open(Path(__file__).with_suffix(".csv"), newline="") as file:
    DINOSAURS = {row["name"].lower(): row for row in csv.DictReader(file)}
NAMES = [*DINOSAURS, "unicorn"]
CLIENTS, PROGRAMS = 20, 2


def look_up(line: bytes) -> bytes:
    """Return the record of the dinosaur whose name a client has sent."""
    name = line.decode(errors="replace").strip().lower()
    record = DINOSAURS.get(name, {"error": f"no dinosaur is called {name!r}"})
    return json.dumps(record).encode()


class LookUp(StreamRequestHandler):
    """Serves a client in a thread or greenlet, which waits for the next line."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(look_up(line) + b"\n")


async def look_up_stream(reader: StreamReader, writer: StreamWriter) -> None:
    """Serve a client in an event loop, which serves others while this one says nothing."""
    async for line in reader:
        writer.write(look_up(line) + b"\n")
        await writer.drain()


# What serves a connection, in each kind of worker. For messages, `look_up` itself does in all.
HANDLERS: dict[str, Callable[..., object]] = {
    "process": LookUp,
    "thread": LookUp,
    "coroutine": look_up_stream,
    "greenlet": LookUp,
}


def ask(address: tuple[str, int], times: int) -> list[bytes]:
    """Be many clients at once: all send a name, then all read their answers, and so on."""
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection(address)) for _ in range(CLIENTS)]
        answers = [opened.enter_context(client.makefile("rb")) for client in clients]
        found = []
        for name in NAMES * times:
            for client in clients:
                client.sendall(f"{name}\n".encode())
            found += [each.readline() for each in answers]
        return found


def load(what: str, server: Server) -> list[bytes]:
    """Put a server under load, by processes that are not held up by its threads."""
    with server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        programs = [server.server_address] * PROGRAMS
        with mh.ProcessPoolExecutor(PROGRAMS) as pool:
            list(pool.map(ask, programs, [1] * PROGRAMS))  # has all workers started
            began = time.perf_counter()
            answers = [*chain.from_iterable(pool.map(ask, programs, [10] * PROGRAMS))]
            seconds = time.perf_counter() - began
        server.shutdown()
        serving.join()
    number = server.statistics()["accepted"]
    print(f"{what}: {len(answers)} answers over {number} connections,", end=" ")
    print(f"{len(answers) / seconds:.0f} a second")
    return answers


def main(kind: Any = "thread") -> None:
    if kind not in HANDLERS:
        sys.exit(f"usage: python {sys.argv[0]} [{' | '.join(HANDLERS)}]")
    address = "127.0.0.1", 0
    load("a stream", Server(address, HANDLERS[kind], workers=kind))
    answers = load("messages", Server(address, look_up, workers=kind, framing="lines"))
    *records, missing = map(json.loads, answers[::CLIENTS][: len(NAMES)])
    longest = max(records, key=lambda record: float(record["length_m"]))
    print(f"the longest was {longest['name']}, {longest['length_m']} m, {longest['period']}")
    print(missing["error"])


if __name__ == "__main__":
    main(*sys.argv[1:])
