"""How connections of event loops end, whoever ends them and whatever has not been taken by then."""

from __future__ import annotations

import asyncio
import importlib
import resource
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from serving import ask, client, serving

RESET = struct.pack("ii", 1, 0)
LARGE = b"x" * 20_000_000


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_handler_may_end_the_connection_of_another(how: str) -> None:
    waiting: list[Any] = []
    ends: list[BaseException] = []

    async def handle(reader: Any, writer: Any) -> None:
        if await reader.readline() == b"wait\n":
            waiting.append(writer)
            try:
                await reader.read(10)
            except ConnectionError as error:
                ends.append(error)
                raise
        # From here it is not our poller that has called it.
        await asyncio.sleep(0.01)
        getattr(waiting[0], how)()
        writer.write(b"ended")

    with serving(handle, workers="coroutine") as server, client(server) as first:
        first.sendall(b"wait\n")
        eventually(lambda: waiting, "the first waits")
        assert ask(server, b"end\n") == b"ended"
        assert first.recv(1) == b""
        eventually(lambda: server.statistics()["active"] == 0, "both end")
        assert len(ends) == 1


def say_much(_message: bytes) -> bytes:
    return LARGE


async def write_much(reader: Any, writer: Any) -> None:
    await reader.readline()
    writer.write(LARGE)


@pytest.mark.parametrize(
    ("handler", "framing"), [(write_much, None), (say_much, "lines")], ids=["streams", "messages"]
)
def test_a_connection_counts_until_its_client_has_taken_all(handler: Any, framing: Any) -> None:
    limits = {"max_connections": 1, "connection_timeout": 0.5}
    with (
        serving(handler, workers="coroutine", framing=framing, **limits) as server,
        client(server) as first,
        client(server) as second,
    ):
        for connection in (first, second):
            connection.sendall(b"say much\n")
            connection.shutdown(socket.SHUT_WR)
        eventually(lambda: server.statistics()["timed_out"] == 2, "both time out")
        eventually(lambda: server.statistics()["active"] == 0, "both end")
        assert server.statistics()["busiest"] == 1


def test_half_a_line_of_a_client_that_is_cut_off_is_no_message() -> None:
    messages: list[bytes] = []

    with serving(messages.append, workers="coroutine", framing="lines") as server:
        with client(server) as connection:
            connection.sendall(b"one\nremove /tmp/some")
            eventually(lambda: messages, "the first message")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        eventually(lambda: server.statistics()["disconnected"] == 1, "the client has gone")
    assert messages == [b"one"]


def test_what_has_been_sent_takes_no_memory(tmp_path: Path) -> None:
    piece = b"x" * 50_000

    async def keep_ahead(reader: Any, writer: Any) -> None:
        writer.write(piece * 20)
        while await reader.read(1):
            writer.write(piece)

    address = f"unix:{tmp_path / 'socket'}"
    with serving(keep_ahead, address, workers="coroutine") as server, client(server) as connection:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(2000):
            connection.recv(len(piece), socket.MSG_WAITALL)
            connection.sendall(b".")
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 40_000, f"{grown_kib} KiB of 100,000 KB sent"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin at once from Python 3.12 on")
def test_tasks_may_begin_at_once() -> None:
    async def answer(_reader: Any, writer: Any) -> None:
        writer.write(b"hello")

    def make_loop() -> asyncio.AbstractEventLoop:
        loop, module = asyncio.new_event_loop(), importlib.import_module("asyncio")
        loop.set_task_factory(module.eager_task_factory)
        return loop

    with serving(answer, workers="coroutine", loop_factory=make_loop) as server:
        assert [ask(server, b"") for _ in range(3)] == [b"hello"] * 3
        eventually(lambda: server.statistics()["active"] == 0, "both end")
        assert server.statistics()["served"] == 3
