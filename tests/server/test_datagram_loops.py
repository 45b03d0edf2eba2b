"""Datagrams in event loops: coroutines and greenlets handle them, many at a time in one thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, run_program, serving

ANY = "udp:127.0.0.1:0"


async def upper(data: bytes, _address: Any) -> bytes:
    await asyncio.sleep(0)
    return data.upper()


@contextmanager
def client(server: Server, name: str | None = None) -> Iterator[socket.socket]:
    """Give a socket that sends to a server, and receives from it only."""
    with socket.socket(server.socket.family, socket.SOCK_DGRAM) as made:
        made.settimeout(WATCHDOG)
        if name is not None:
            made.bind(name)
        made.connect(server.server_address)
        yield made


def loops(handler: Any, address: Any = ANY, **options: Any) -> Any:
    return serving(handler, address, **({"workers": "coroutine"} | options))


@pytest.mark.parametrize("address", [ANY, "udp:[::1]:0", "unix"])
def test_each_datagram_is_answered(address: str, tmp_path: Path) -> None:
    name = None
    if address == "unix":
        address, name = f"udp:unix:{tmp_path / 'server'}", str(tmp_path / "client")
    with loops(upper, address) as server, client(server, name) as connection:
        for number in range(100):
            connection.send(b"hello %d" % number)
            assert connection.recv(100) == b"HELLO %d" % number
        eventually(lambda: server.statistics()["served"] == 100, "all are counted")


def test_many_wait_at_a_time_in_one_thread() -> None:
    threads: set[str] = set()
    everybody = asyncio.Event()
    waiting = 0

    async def wait(data: bytes, _address: Any) -> bytes:
        nonlocal waiting
        threads.add(threading.current_thread().name)
        waiting += 1
        if waiting == 50:
            everybody.set()
        await everybody.wait()
        return data

    with loops(wait) as server, client(server) as connection:
        for number in range(50):
            connection.send(b"%d" % number)
        assert {connection.recv(10) for _ in range(50)} == {b"%d" % each for each in range(50)}
    assert len(threads) == 1


def test_limits() -> None:
    go_on = asyncio.Event()

    async def slow(data: bytes, _address: Any) -> bytes:
        if data == b"go on":
            go_on.set()
        await go_on.wait()
        return data

    options: dict[str, Any] = {"max_active": 2, "max_queue": 1, "overflow": "reject"}
    with loops(slow, max_packet_size=10, **options) as server, client(server) as connection:
        connection.send(b"x" * 11)
        connection.send(b"one")
        eventually(lambda: server.statistics()["active"] == 1, "it is handled")
        connection.send(b"go on")
        assert {connection.recv(10), connection.recv(10)} == {b"one", b"go on"}
        eventually(lambda: server.statistics()["active"] == 0, "both have ended")
        go_on.clear()
        for _ in range(4):
            connection.send(b"more")
        eventually(lambda: server.statistics()["refused"] == 2, "one too long, one too many")
        assert (server.statistics()["active"], server.statistics()["queued"]) == (2, 1)
        server.shutdown(0)


def test_a_handler_that_raises_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(data: bytes, _address: Any) -> Any:
        if data == b"raise":
            raise ZeroDivisionError("no dinosaurs")
        return 7 if data == b"nonsense" else data

    with loops(broken) as server, client(server) as connection:
        for data in (b"raise", b"nonsense", b"fine"):
            connection.send(data)
        assert connection.recv(10) == b"fine"
        assert server.statistics()["failed"] == 2
    assert "broken" in caplog.text and "no dinosaurs" in caplog.text


def test_a_client_that_does_not_read_does_not_stop_the_loop(tmp_path: Path) -> None:
    address = f"udp:unix:{tmp_path / 'server'}"
    with loops(upper, address) as server, client(server, str(tmp_path / "a")) as connection:
        with client(server, str(tmp_path / "deaf")) as deaf:
            for _ in range(1000):
                deaf.send(b"x")
            eventually(lambda: server.statistics()["served"] == 1000, "all are handled")
            counts = server.statistics()
            assert counts["disconnected"] > 0 and counts["failed"] == 0, "replies are dropped"
        # What it has not read has filled the socket's buffer, and goes with it.
        connection.send(b"hello")
        assert connection.recv(10) == b"HELLO"


def test_the_end_cancels_handlers_after_their_grace() -> None:
    ends: list[str] = []

    async def slow(data: bytes, _address: Any) -> bytes:
        try:
            await asyncio.sleep(float(data))
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        ends.append("done")
        return data

    with loops(slow, grace=1.0) as server, client(server) as connection:
        connection.send(b"0.2")
        connection.send(b"100")
        eventually(lambda: server.statistics()["active"] == 2, "both are handled")
        server.shutdown()
        assert connection.recv(10) == b"0.2"
    assert ends == ["done", "cancelled"]


def test_greenlets() -> None:
    pytest.importorskip("greenlet", reason="there is no greenlet for this Python")

    def later(data: bytes, _address: Any) -> bytes:
        mh.sleep(0.001)
        return data.upper()

    with loops(later, workers="greenlet") as server, client(server) as connection:
        for _ in range(20):
            connection.send(b"hello")
        assert {connection.recv(10) for _ in range(20)} == {b"HELLO"}


def test_a_pool_of_the_users() -> None:
    with mh.CoroutinePoolExecutor() as pool:
        with loops(upper, workers=pool) as server, client(server) as connection:
            connection.send(b"hello")
            assert connection.recv(10) == b"HELLO"


def test_processes_with_event_loops() -> None:
    program = """
import asyncio, os, socket, threading
from manyhands.server import Server

async def who(data, address):
    await asyncio.sleep(0.05)
    return b"%d" % os.getpid()

with Server("udp:127.0.0.1:0", who, workers="process", max_workers=2) as server:
    threading.Thread(target=server.serve_forever).start()
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(20)
    for _ in range(40):
        client.sendto(b"x", server.server_address)
    answers = {int(client.recv(100)) for _ in range(40)}
    client.close()
    server.shutdown()
assert os.getpid() not in answers
print("ok")
"""
    done = run_program(program)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_handler_that_does_not_fit_is_refused_with_the_word_that_would() -> None:
    def plain(_data: bytes, _address: Any) -> None: ...

    async def of_one(_data: bytes) -> None: ...

    refused: list[tuple[Any, str, str]] = [
        (plain, "coroutine", "workers='thread'"),
        (upper, "thread", "workers='coroutine'"),
        (of_one, "coroutine", r"async def handle\(data, address\)"),
    ]
    for handler, workers, said in refused:
        with pytest.raises(TypeError, match=said):
            Server(ANY, handler, workers=workers)  # type: ignore[arg-type]
