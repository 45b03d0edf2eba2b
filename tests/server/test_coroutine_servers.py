"""Servers whose workers are event loops: an async function serves each client."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import socket
import ssl
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, ask, client, read_all, run_program, serving

with contextlib.suppress(ImportError):
    # Its library keeps a pipe for signals, for as long as the process lives.
    importlib.import_module("uvloop").new_event_loop().close()

CERTIFICATE = Path(__file__).parent.parent / "support" / "localhost.pem"
RESET = struct.pack("ii", 1, 0)


async def upper(reader: Any, writer: Any) -> None:
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()


def sent_until_full(connection: socket.socket) -> int:
    """Send until there is no room; return how many bytes."""
    connection.settimeout(0.3)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            sent += connection.send(b"x" * 65_536)
    return sent


def say_one_byte_after_the_other(connection: socket.socket) -> None:
    """Send slowly, until the connection is ended."""
    connection.settimeout(0.05)
    with contextlib.suppress(ConnectionError):
        while True:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                if connection.recv(10) == b"":
                    return


def loops(handler: Any, **options: Any) -> Any:
    return serving(handler, workers="coroutine", **options)


def test_many_clients_are_served_at_a_time_in_one_thread() -> None:
    with loops(upper) as server:
        clients = [client(server) for _ in range(200)]
        for number, connection in enumerate(clients):
            connection.sendall(b"line %d\n" % number)
        for number, connection in enumerate(clients):
            assert connection.recv(100) == b"LINE %d\n" % number
        eventually(lambda: server.statistics()["active"] == 200, "all are there")
        for connection in clients:
            connection.close()
        eventually(lambda: server.statistics()["served"] == 200, "all are served")


@pytest.mark.parametrize("family", ["127.0.0.1:0", "[::1]:0", "unix"])
def test_it_listens_wherever_threads_do(family: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'socket'}" if family == "unix" else family
    peers: list[Any] = []

    async def handle(reader: Any, writer: Any) -> None:
        peers.append(writer.get_extra_info("peername"))
        writer.write(await reader.read(10))

    with loops(handle, address=address) as server, client(server) as connection:
        connection.sendall(b"hello")
        assert read_all(connection) == b"hello"
        assert peers == [connection.getsockname()]


def test_each_loop_gets_as_many() -> None:
    threads: list[str] = []

    async def handle(reader: Any, _writer: Any) -> None:
        threads.append(threading.current_thread().name)
        await reader.read()

    with loops(handle, max_workers=3) as server:
        clients = [client(server) for _ in range(30)]
        eventually(lambda: len(threads) == 30, "all are served")
        assert {threads.count(name) for name in threads} == {10}
        for connection in clients:
            connection.close()


def test_a_handler_that_raises_is_named_with_its_client(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_reader: Any, _writer: Any) -> None:
        raise ZeroDivisionError("no dinosaurs")

    with loops(broken) as server, client(server) as connection:
        peer = connection.getsockname()
        assert read_all(connection) == b""
        eventually(lambda: server.statistics()["failed"] == 1, "the failure is counted")
        assert ask(server, b"") == b"", "others are served"
    record = caplog.records[0]
    assert record.name == "manyhands.server" and record.levelno == logging.ERROR
    assert "broken" in record.message and str(peer) in record.message


def test_lines_beyond_the_limit_are_errors_as_in_asyncio() -> None:
    async def handle(reader: Any, writer: Any) -> None:
        with pytest.raises(ValueError, match="longer than limit"):
            await reader.readline()
        with pytest.raises(asyncio.LimitOverrunError):
            await reader.readuntil(b"!")
        writer.write(await reader.readline())

    with loops(handle, limit=10) as server:
        assert ask(server, b"x" * 11 + b"\n" + b"y" * 10 + b"\n") == b"y" * 10 + b"\n"


def test_a_client_that_goes_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(reader: Any, _writer: Any) -> None:
        await reader.readexactly(10)

    with loops(handle) as server:
        with client(server) as connection:
            connection.sendall(b"x")
        with client(server) as connection:
            connection.sendall(b"x")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        eventually(lambda: server.statistics()["disconnected"] == 2, "both are counted")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_writers_wait_for_a_client_that_does_not_read() -> None:
    written: list[int] = []

    async def handle(_reader: Any, writer: Any) -> None:
        for _ in range(400):
            writer.write(b"x" * 65_536)
            await writer.drain()
            written.append(65_536)

    with loops(handle) as server, client(server) as connection:
        eventually(lambda: len(written) > 0, "it has begun")
        time.sleep(0.2)
        assert sum(written) < 400 * 65_536, "the kernel has no room for all"
        assert len(read_all(connection)) == 400 * 65_536


def test_a_client_that_sends_what_nobody_reads_fills_no_memory() -> None:
    go = threading.Event()

    async def handle(reader: Any, writer: Any) -> None:
        while not go.is_set():
            await asyncio.sleep(0.01)
        writer.write(b"%d" % len(await reader.read()))

    with loops(handle, limit=1000) as server, client(server) as connection:
        sent = sent_until_full(connection)
        go.set()
        connection.settimeout(WATCHDOG)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"%d" % sent


def test_what_is_awaited_is_a_coroutine_to_asyncio() -> None:
    async def handle(reader: Any, writer: Any) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.01)
        writer.write(b"1")
        assert await asyncio.wait_for(reader.readline(), WATCHDOG) == b"one\n"
        both = await asyncio.gather(reader.readline(), writer.drain())
        assert list(both) == [b"two\n", None]
        task = asyncio.create_task(reader.readexactly(5))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another coroutine is already waiting"):
            await reader.read(1)
        task.cancel("no more")
        with pytest.raises(asyncio.CancelledError, match="no more"):
            await task
        writer.write(b"2")
        done, _ = await asyncio.wait({asyncio.ensure_future(reader.readuntil(b"ee"))})
        assert [each.result() for each in done] == [b"three"]
        with pytest.raises(asyncio.IncompleteReadError) as incomplete:
            await reader.readexactly(10)
        assert incomplete.value.partial == b"rest" and incomplete.value.expected == 10
        assert reader.at_eof()
        writer.write(b"ok")

    with loops(handle) as server, client(server) as connection:
        assert connection.recv(1) == b"1"
        connection.sendall(b"one\ntwo\n")
        assert connection.recv(1) == b"2"
        connection.sendall(b"threerest")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"ok"


def test_of_several_separators_the_one_that_ends_first_counts() -> None:
    async def handle(reader: Any, writer: Any) -> None:
        for separators in ((b"\r\n", b"\n"), (b";", b"--"), (b"\n",)):
            writer.write(await reader.readuntil(separators) + b"|")
        with pytest.raises(ValueError, match="at least one element"):
            reader.readuntil(())
        with pytest.raises(ValueError, match="one-byte"):
            reader.readuntil((b"x", b""))
        with pytest.raises(asyncio.IncompleteReadError):
            await reader.readuntil((b"x", b"yy"))

    with loops(handle) as server:
        assert ask(server, b"one\r\ntwo--three;\nrest") == b"one\r\n|two--|three;\n|"


@pytest.mark.on_each_python
def test_nothing_can_be_written_after_the_end_as_in_asyncio() -> None:
    outcomes: list[bytes] = []

    async def handle(reader: Any, writer: Any) -> None:
        writer.write(b"all")
        writer.write_eof()
        for write, what in ((writer.write, b"more"), (writer.writelines, [b"more"])):
            with pytest.raises(RuntimeError, match="write_eof"):
                write(what)
        outcomes.append(await reader.read())
        writer.close()

    def ask_twice(address: Any) -> None:
        with socket.create_connection(address, WATCHDOG) as connection:
            assert read_all(connection) == b"all"
            connection.sendall(b"still heard")

    async def theirs() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            await asyncio.to_thread(ask_twice, server.sockets[0].getsockname())
            while len(outcomes) < 2:
                await asyncio.sleep(0.01)

    with loops(handle) as server:
        ask_twice(server.server_address)
        eventually(lambda: len(outcomes) == 1, "it is done")
    asyncio.run(asyncio.wait_for(theirs(), WATCHDOG))
    assert outcomes == [b"still heard"] * 2


def test_a_blocking_handler_is_found_and_named(caplog: pytest.LogCaptureFixture) -> None:
    async def blocking(_reader: Any, _writer: Any) -> None:
        time.sleep(0.4)

    with loops(blocking) as server:
        assert ask(server, b"") == b""
        eventually(lambda: server.statistics()["stuck"] == 1, "the stall is counted")
        eventually(lambda: "blocking" in caplog.text, "the stall is named")


@pytest.mark.parametrize("encrypted", [False, True])
def test_idle_connections_do_not_hold_up_the_end(encrypted: bool) -> None:
    context, options = None, {}
    if encrypted:
        options["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        options["ssl"].load_cert_chain(CERTIFICATE)
        context = ssl.create_default_context(cafile=str(CERTIFICATE))
    with loops(upper, grace=WATCHDOG, **options) as server:
        connection = client(server)
        if context is not None:
            connection = context.wrap_socket(connection, server_hostname="localhost")
        connection.sendall(b"a\n")
        assert connection.recv(10) == b"A\n"
        began = time.monotonic()
    assert time.monotonic() - began < WATCHDOG / 2
    with connection:
        try:
            assert connection.recv(10) == b""
        except (ConnectionError, ssl.SSLError):
            assert encrypted, "asyncio breaks off such connections"


def test_what_is_served_has_its_grace_and_is_then_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outcomes: list[str] = []

    async def slow(reader: Any, writer: Any) -> None:
        seconds = float(await reader.readline())
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise
        outcomes.append("done")
        writer.write(b"done")

    with loops(slow, grace=1.0) as server, client(server) as soon, client(server) as late:
        soon.sendall(b"0.2\n")
        late.sendall(b"100\n")
        eventually(lambda: server.statistics()["active"] == 2, "both are served")
        began = time.monotonic()
        server.shutdown()
        assert time.monotonic() - began < 1.5
        assert read_all(soon) == b"done"
        assert read_all(late) == b""
    assert sorted(outcomes) == ["cancelled", "done"]
    assert "1 handlers still running" in caplog.text


def test_shutdown_is_legal_in_a_handler() -> None:
    async def handle(_reader: Any, writer: Any) -> None:
        writer.write(b"bye")
        server.shutdown()

    with loops(handle) as server:
        assert ask(server, b"") == b"bye"


def test_limits_are_three_numbers() -> None:
    refused: list[Any] = []

    def refuse(connection: socket.socket, _address: Any) -> None:
        connection.sendall(b"full")
        refused.append(None)

    options: dict[str, Any] = {"max_active": 1, "max_queue": 1, "overflow": refuse}
    with loops(upper, **options) as server:
        first, second, third = client(server), client(server), client(server)
        assert read_all(third) == b"full"
        first.sendall(b"a\n")
        assert first.recv(10) == b"A\n"
        second.sendall(b"b\n")
        first.close()
        assert second.recv(10) == b"B\n"
        second.close()
        third.close()
    assert len(refused) == 1


def test_times_of_a_connection_are_absolute() -> None:
    options: dict[str, Any] = {"first_byte_timeout": 0.1, "connection_timeout": 0.5}
    with loops(upper, **options) as server, client(server) as slow, client(server) as silent:
        slow.sendall(b"x")
        began = time.monotonic()
        assert read_all(silent) == b""
        assert server.statistics()["timed_out"] == 1
        say_one_byte_after_the_other(slow)
        assert 0.3 < time.monotonic() - began < 5
        assert server.statistics()["timed_out"] == 2


def test_silent_clients_of_tls_hold_up_nobody() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    ours = ssl.create_default_context(cafile=str(CERTIFICATE))
    with (
        loops(upper, ssl=context, handshake_timeout=0.5) as server,
        client(server) as silent,
        client(server) as plain,
        ours.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"secret\n")
        assert connection.recv(10) == b"SECRET\n"
        assert read_all(silent) == b""
        eventually(lambda: server.statistics()["disconnected"] == 1, "the silent one is counted")


def test_processes_have_loops_for_async_handlers() -> None:
    program = """
import asyncio, os, socket, threading
from manyhands.server import Server

async def who(reader, writer):
    await asyncio.sleep(0.05)
    writer.write(f"{os.getpid()} {threading.active_count()}".encode())

with Server("127.0.0.1:0", who, workers="process", max_workers=2) as server:
    threading.Thread(target=server.serve_forever).start()
    clients = [socket.create_connection(server.server_address) for _ in range(20)]
    answers = [client.recv(100).split() for client in clients]
    for client in clients:
        client.close()
    server.shutdown()
assert len(answers) == 20
assert os.getpid() not in {int(pid) for pid, _ in answers}
assert all(int(threads) < 10 for _, threads in answers), answers
print("ok")
"""
    done = run_program(program)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_handler_that_does_not_fit_is_refused_with_the_word_that_would() -> None:
    def plain(_connection: socket.socket) -> None: ...

    async def of_one(_reader: Any) -> None: ...

    refused: list[tuple[Any, str, str]] = [
        (plain, "coroutine", "workers='thread'"),
        (upper, "thread", "workers='coroutine'"),
        (of_one, "coroutine", r"async def handle\(reader, writer\)"),
    ]
    for handler, workers, said in refused:
        with pytest.raises(TypeError, match=said):
            Server("127.0.0.1:0", handler, workers=workers)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'fibre' must be"):
        Server("127.0.0.1:0", upper, workers="fibre")  # type: ignore[arg-type]


def broken() -> Any:
    raise ZeroDivisionError("no loop")


def closed() -> Any:
    made = asyncio.new_event_loop()
    made.close()
    return made


@pytest.mark.parametrize(
    ("made", "said"),
    [(broken, "no loop"), (closed, "which is closed"), (lambda: None, "which is none")],
)
def test_a_loop_that_cannot_be_made_is_an_error_of_serving(made: Any, said: str) -> None:
    with Server("127.0.0.1:0", upper, workers="coroutine", loop_factory=made) as server:
        with pytest.raises(Exception, match=said):
            server.serve_forever()


def test_a_loop_that_runs_elsewhere_is_refused_and_left_alone() -> None:
    theirs = asyncio.new_event_loop()
    thread = threading.Thread(target=theirs.run_forever)
    thread.start()
    options: dict[str, Any] = {"workers": "coroutine", "loop_factory": lambda: theirs}
    with Server("127.0.0.1:0", upper, **options) as server:
        with pytest.raises(Exception, match="runs already"):
            server.serve_forever()
    theirs.call_soon_threadsafe(theirs.stop)
    thread.join(WATCHDOG)
    theirs.close()


def test_one_loop_for_two_serves_alone(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Any] = []

    def always_the_same() -> Any:
        if made:
            eventually(made[0].is_running, "it runs")
        else:
            made.append(asyncio.new_event_loop())
        return made[0]

    with loops(upper, loop_factory=always_the_same, max_workers=2) as server:
        for _ in range(4):
            assert ask(server, b"a\n") == b"A\n"
    assert "runs already" in caplog.text


def test_another_event_loop_serves_as_well() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed here")
    with loops(upper, loop_factory=uvloop.new_event_loop) as server, client(server) as connection:
        connection.sendall(b"a\n")
        assert connection.recv(10) == b"A\n"


def test_descriptors_stay_flat_over_many_short_connections() -> None:
    async def once(reader: Any, writer: Any) -> None:
        writer.write(await reader.read(10))

    with loops(once) as server:
        assert ask(server, b"x") == b"x"
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(2000):
            assert ask(server, b"x") == b"x"
        eventually(lambda: server.statistics()["active"] == 0, "all have ended")
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_server_serves_again_after_its_end() -> None:
    with Server("127.0.0.1:0", upper, workers="coroutine") as server:
        for round_number in range(1, 4):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            assert ask(server, b"a\n") == b"A\n"
            server.shutdown()
            thread.join(WATCHDOG)
            assert not thread.is_alive()
            assert server.statistics()["served"] == round_number
