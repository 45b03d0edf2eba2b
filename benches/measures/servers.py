"""How many requests a second a server answers, and how long its clients wait for that."""

from __future__ import annotations

import abc
import os
import socket
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from benches.measure import Measure, Sample, WrongResult, check
from benches.measures.memory import pss
from benches.server import HOST, Manners, ServerContender
from benches.server_process import ServerProcess
from benches.waits import DISTRIBUTION, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benches.contender import Contender, Kind
    from benches.measure import Unit

SIZE = 1024
REQUEST = b"x" * (SIZE - 1) + b"\n"
# What a sample is at least, and the warm-up before it in seconds.
REQUESTS = 20_000
WARM_S = 0.3
# A load that is shorter may end before a busy machine has made the connections.
SHORTEST_S = 0.2
# What a server may take for one request, and for all of a load.
ANSWER_S = 20.0
LOAD_S = 60.0
# Loads beside idle connections, and as many beside none.
PAIRS = 3


@dataclass(frozen=True)
class Outcome:
    """What came of loads: the seconds of each request, how long all took, and who got how much.

    `shares` are the requests of each connection in the first load; none where they are not kept.
    """

    waits: list[float]
    seconds: float
    shares: list[int]

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.waits) / self.seconds

    def detail(self) -> dict[str, float]:
        """Return how the waits are spread, and how unlike the connections have fared."""
        found = spread(self.waits, DISTRIBUTION)
        named = {f"wait_{what}": found[what] for what in DISTRIBUTION}
        if self.shares:
            # A connection that got nothing counts as one answer: the ratio has to be a number.
            named["busiest_to_idlest"] = max(self.shares) / max(1, min(self.shares))
        return {**named, "calls": found["calls"]}


@dataclass(frozen=True)
class Load:
    """Clients that each send a request once the last one is answered."""

    port: int
    connections: int
    reconnect: bool

    def put(self, requests: int, shortest_s: float, rate: float) -> Outcome:
        """Load the server until so many requests are answered, and so many seconds have passed.

        Args:
            rate: about how many a second it answers.

        Raises WrongResult if a request fails, or if it takes longer than anybody waits.
        """
        from manyhands import _native

        waits: list[float] = []
        seconds = 0.0
        shares: list[int] = []
        at_least = SHORTEST_S
        give_up = time.monotonic() + LOAD_S
        while len(waits) < requests or seconds < shortest_s:
            # A tenth more: another load for the last few would be one of connecting.
            length = max(1.1 * (requests - len(waits)) / rate, shortest_s - seconds, at_least)
            # A server that still has to do with connections of the last load answers none of
            # another that is as short, if that goes on.
            at_least *= 2
            report = _native.run_load(
                f"{HOST}:{self.port}",
                connections=self.connections,
                request=REQUEST,
                answer=SIZE,
                reconnect=self.reconnect,
                seconds=min(length, LOAD_S),
            )
            failed = ", ".join(f"{count} × {what}" for what, count in report["failures"].items())
            check(not failed, f"requests failed beside {len(report['waits'])} answered: {failed}")
            waits += report["waits"]
            seconds += report["seconds"]
            # Of connections that are not kept there is nothing but zeros.
            shares = shares or ([] if self.reconnect else report["shares"])
            if len(waits) < requests and time.monotonic() > give_up:
                raise WrongResult(f"{len(waits)} of {requests} requests answered in {LOAD_S} s")
        return Outcome(waits, seconds, shares)

    def warm(self, scale: float) -> float:
        """Have everything started that a server starts as needed; return requests a second."""
        return self.put(1, WARM_S * min(1.0, scale), REQUESTS / ANSWER_S).rate


class ServerMeasure(Measure):
    """A benchmark of servers, each of which runs in a process of its own."""

    group = "servers"
    kind: ClassVar[Kind] = "server"
    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True
    timeout_s: ClassVar[float] = 180.0
    manners: ClassVar[Manners]
    connections: ClassVar[int]

    def sample(self, library: type[Contender], scale: float) -> Sample:
        """Measure the library's server."""
        assert issubclass(library, ServerContender)
        with ServerProcess(library, self.manners, self.kind) as server:
            check_echo(server.port)
            load = Load(server.port, self.connections, reconnect=self.manners == "close")
            sample = self.run(server.pid, load, load.warm(scale), scale)
            check_echo(server.port)
        return sample

    @abc.abstractmethod
    def run(self, pid: int, load: Load, rate: float, scale: float) -> Sample:
        """Measure the server in a process; `load` can be put on it.

        Args:
            rate: about how many requests it answers a second.
        """


class RateMeasure(ServerMeasure):
    """Requests a second."""

    details: ClassVar[Mapping[str, Unit]] = {
        **{f"wait_{what}": "s" for what in DISTRIBUTION},
        "busiest_to_idlest": "x",
    }

    def run(self, pid: int, load: Load, rate: float, scale: float) -> Sample:
        """Return how many requests a second are answered."""
        outcome = load.put(wanted(REQUESTS, scale), min(1.0, scale), rate)
        return Sample(outcome.rate, outcome.detail())


class Echo(RateMeasure):
    """Requests on connections that are kept."""

    name = "serve_echo"
    title = "Server: echo of 1 KiB on 64 connections"
    about = (
        "each client sends as soon as it has its answer; a handler sends back what it receives "
        "until the client closes the connection; requests per second of all"
    )
    manners = "keep"
    connections = 64


class Connections(RateMeasure):
    """Requests that each come on a connection of their own."""

    name = "serve_connections"
    title = "Server: a connection for each request, 32 at a time"
    about = "as `serve_echo`, but the handler answers once; requests per second of all"
    manners = "close"
    connections = 32


class ProcessEcho(Echo):
    """The same of servers whose workers are processes."""

    name = "serve_process_echo"
    title = "Server of processes: echo of 1 KiB on 64 connections"
    about = "as `serve_echo`, of servers whose workers are processes"
    kind = "process_server"


class ProcessConnections(Connections):
    """The same of servers whose workers are processes."""

    name = "serve_process_connections"
    title = "Server of processes: a connection for each request, 32 at a time"
    about = "as `serve_connections`, of servers whose workers are processes"
    kind = "process_server"


class Streams(Echo):
    """The same by a coroutine of a reader and a writer."""

    name = "serve_streams"
    title = "Server of streams: echo of 1 KiB on 64 connections"
    about = "as `serve_echo`, by an `async def` handler; ours on asyncio's event loop"
    kind = "stream_server"


class UvloopStreams(Echo):
    """The same on the event loop of uvloop."""

    name = "serve_uvloop_streams"
    title = "Server of streams on uvloop: echo of 1 KiB on 64 connections"
    about = "as `serve_streams`, ours on the event loop of uvloop, too"
    kind = "uvloop_server"


class Messages(Echo):
    """The same by a function of a message."""

    name = "serve_messages"
    title = "Server of lines: echo of 1 KiB on 64 connections"
    about = "as `serve_echo`, by a function of a line of 1 KiB; the other looks for no lines"
    kind = "message_server"


class BesideIdle(ServerMeasure):
    """What connections cost on which nothing is said."""

    name = "serve_idle"
    title = "Server: echo beside 60 idle connections"
    about = (
        "`serve_echo` beside 60 connections that have been answered once and say nothing: "
        "its requests per second as a share of those beside none"
    )
    unit: ClassVar[Unit] = "x"
    details: ClassVar[Mapping[str, Unit]] = {"beside_none": "1/s", "beside_idle": "1/s"}
    manners = "keep"
    connections = 64
    idle = 60

    def run(self, pid: int, load: Load, rate: float, scale: float) -> Sample:
        """Return the rate beside idle connections divided by that beside none."""
        count = wanted(self.idle, scale)
        rates: dict[int, list[float]] = {0: [], count: []}
        requests = wanted(REQUESTS / 2, scale)
        for number in range(PAIRS):
            # In turn, so that a machine that gets slower slows both.
            for idle in (0, count) if number % 2 else (count, 0):
                with idle_connections(load.port, idle):
                    rates[idle].append(load.put(requests, 0.5 * min(1.0, scale), rate).rate)
        none, beside = fmean(rates[0]), fmean(rates[count])
        return Sample(beside / none, {"beside_none": none, "beside_idle": beside})


class BesideCrowd(BesideIdle):
    """What very many of them cost."""

    name = "serve_crowd"
    title = "Server of streams: echo beside 5,000 idle connections"
    about = (
        "as `serve_idle`, beside 5,000, of servers by `async def` handlers; `memory` is the PSS of "
        "the server beside them, less that before, for each"
    )
    details: ClassVar[Mapping[str, Unit]] = {**BesideIdle.details, "memory": "B"}
    kind = "stream_server"
    idle = 5_000

    def run(self, pid: int, load: Load, rate: float, scale: float) -> Sample:
        """Return the ratio of rates, and what an idle connection takes of memory."""
        before, count = pss(pid), wanted(self.idle, scale)
        with idle_connections(load.port, count):
            memory = (pss(pid) - before) / count
        sample = super().run(pid, load, rate, scale)
        return Sample(sample.value, {**sample.detail, "memory": memory})


def wanted(requests: float, scale: float) -> int:
    """Return how many requests a sample of this scale has."""
    return max(1, int(requests * scale))


def check_echo(port: int) -> None:
    """Have one request answered. Raises WrongResult unless the answer is the request."""
    with socket.create_connection((HOST, port), ANSWER_S) as client:
        echoed(client)


def echoed(client: socket.socket) -> None:
    """Send a random line. Raises WrongResult unless it comes back."""
    request = os.urandom(SIZE // 2).hex()[1:].encode() + b"\n"
    answer = b""
    client.sendall(request)
    try:
        while len(answer) < SIZE and (data := client.recv(SIZE)):
            answer += data
    except TimeoutError:
        raise WrongResult(f"no answer within {ANSWER_S:.0f} s") from None
    check(answer == request, "the answer is not the request")


@contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    """Keep connections open, on each of which the server answers before and after."""
    with ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection((HOST, port), ANSWER_S))
            for _ in range(count)
        ]
        for client in clients:
            echoed(client)
        yield
        for client in clients:
            echoed(client)
