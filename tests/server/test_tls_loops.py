"""TLS in event loops: the same connections as without, and what a client may do with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, client, read_all, serving

CERTIFICATE = Path(__file__).parent.parent / "support" / "localhost.pem"
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n"
MEGABYTE = 1 << 20


def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATE)
    return made


def secured(connection: socket.socket, **options: Any) -> ssl.SSLSocket:
    ours = ssl.create_default_context(cafile=str(CERTIFICATE))
    return ours.wrap_socket(connection, server_hostname="localhost", **options)


def loops(handler: Any, **options: Any) -> Any:
    options = {"workers": "coroutine", "ssl": context()} | options
    return serving(handler, **options)


async def upper(reader: Any, writer: Any) -> None:
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()


async def echo(reader: Any, writer: Any) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def sending(connection: ssl.SSLSocket, data: bytes) -> Iterator[None]:
    """Send in a thread meanwhile."""
    thread = threading.Thread(target=connection.sendall, args=(data,))
    thread.start()
    yield
    thread.join(WATCHDOG)
    assert not thread.is_alive()


def received(connection: socket.socket, count: int) -> bytes:
    whole = bytearray()
    while len(whole) < count and (part := connection.recv(65_536)):
        whole += part
    return bytes(whole)


class InPieces:
    """A client of TLS whose records the test itself sends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = ssl.create_default_context(cafile=str(CERTIFICATE))
        self.tls = ours.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def call(self, method: Any, *args: Any) -> Any:
        """Call until it needs no more of the server."""
        while True:
            try:
                result = method(*args)
            except ssl.SSLWantReadError:
                self._send(self._outgoing.read())
                self._incoming.write(self._connection.recv(65_536))
            else:
                return result

    def flush(self, length: int) -> None:
        """Send what has been written, in pieces of this length."""
        sealed = self._outgoing.read()
        for begin in range(0, len(sealed), length):
            self._send(sealed[begin : begin + length])

    def _send(self, data: bytes) -> None:
        self._connection.sendall(data)


@pytest.mark.parametrize("length", [1, 5, 100, 1 << 20])
def test_records_are_read_however_they_come(length: int) -> None:
    with loops(upper) as server, client(server) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pieces = InPieces(plain)
        pieces.call(pieces.tls.do_handshake)
        # What the handshake ends with goes together with the first of them.
        for number in range(20):
            pieces.tls.write(b"line %d\n" % number)
        pieces.flush(length)
        answer = b""
        while answer.count(b"\n") < 20:
            answer += pieces.call(pieces.tls.read, 1000)
        assert answer == b"".join(b"LINE %d\n" % number for number in range(20))


def test_much_goes_both_ways_at_a_time() -> None:
    data = bytes(range(256)) * (8 * MEGABYTE // 256)
    with loops(echo) as server, secured(client(server)) as connection:
        with sending(connection, data):
            assert received(connection, len(data)) == data


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(version: ssl.TLSVersion) -> None:
    ours = ssl.create_default_context(cafile=str(CERTIFICATE))
    ours.maximum_version = version
    with (
        loops(upper) as server,
        client(server) as plain,
        ours.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"a\n")
        assert connection.recv(10) == b"A\n"
        assert connection.version() == version.name.replace("_", ".")


@pytest.mark.parametrize("proxied", [False, True])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_client_that_does_not_read_counts_until_it_has(proxied: bool, encrypted: bool) -> None:
    returned = threading.Event()

    async def handle(_reader: Any, writer: Any) -> None:
        writer.write(b"x" * (16 * MEGABYTE))
        returned.set()

    options: dict[str, Any] = {"ssl": context() if encrypted else None}
    with (
        loops(handle, proxy_protocol="*" if proxied else None, **options) as server,
        client(server) as connection,
    ):
        if proxied:
            connection.sendall(HEADER)
        if encrypted:
            connection = secured(connection)
        with connection:
            assert returned.wait(WATCHDOG)
            assert received(connection, 100_000)
            assert server.statistics()["active"] == 1, "it has not got all"
            rest = len(read_all(connection))
            assert 15 * MEGABYTE < rest < 16 * MEGABYTE
            eventually(lambda: server.statistics()["active"] == 0, "it has got all")


def test_one_that_never_reads_is_ended_when_its_time_is_over() -> None:
    async def handle(_reader: Any, writer: Any) -> None:
        writer.write(b"x" * (16 * MEGABYTE))

    with loops(handle, connection_timeout=0.5) as server, secured(client(server)) as connection:
        assert connection.recv(1) == b"x"
        eventually(lambda: server.statistics()["active"] == 0, "its time is over")
        assert server.statistics()["timed_out"] == 1


def test_a_client_that_says_no_more_is_answered() -> None:
    async def handle(reader: Any, writer: Any) -> None:
        writer.write(b"%d" % len(await reader.read()))

    with loops(handle) as server, client(server) as plain:
        pieces = InPieces(plain)
        pieces.call(pieces.tls.do_handshake)
        pieces.tls.write(b"hello")
        with contextlib.suppress(ssl.SSLWantReadError):
            pieces.tls.unwrap()
        pieces.flush(MEGABYTE)
        assert pieces.call(pieces.tls.read, 10) == b"5"
        # The server says that this is all, too.
        with pytest.raises(ssl.SSLZeroReturnError):
            pieces.call(pieces.tls.read, 10)


@pytest.mark.parametrize("what", [b"GET / HTTP/1.0\r\n\r\n", b"", b"\x16\x03\x01\x00"])
def test_what_is_no_handshake_is_told_so(what: bytes) -> None:
    with loops(upper) as server:
        with client(server) as plain:
            plain.sendall(what)
            plain.shutdown(socket.SHUT_WR)
            # An alert, where there is something to be alerted of.
            assert read_all(plain)[:1] in (b"", b"\x15")
        eventually(lambda: server.statistics()["disconnected"] == 1, "it is counted")
        with secured(client(server)) as connection:
            connection.sendall(b"a\n")
            assert connection.recv(10) == b"A\n"


def test_what_is_no_record_ends_the_connection() -> None:
    failures: list[Exception] = []

    async def handle(reader: Any, writer: Any) -> None:
        try:
            await upper(reader, writer)
        except Exception as error:
            failures.append(error)
            raise

    with loops(handle) as server, client(server) as plain:
        pieces = InPieces(plain)
        pieces.call(pieces.tls.do_handshake)
        pieces.tls.write(b"first\n")
        pieces.flush(MEGABYTE)
        assert pieces.call(pieces.tls.read, 10) == b"FIRST\n"
        plain.sendall(b"\x17\x03\x03\x00\x20" + b"nonsense" * 4)
        assert read_all(plain)[:1] == b"\x17", "an alert, as a record of TLS 1.3"
        eventually(lambda: server.statistics()["disconnected"] == 1, "it is counted")
    assert isinstance(failures[0], ConnectionResetError)


def test_idle_connections_end_as_tls_has_it() -> None:
    with loops(upper, grace=WATCHDOG) as server:
        connection = secured(client(server), suppress_ragged_eofs=False)
        connection.sendall(b"a\n")
        assert connection.recv(10) == b"A\n"
        server.shutdown()
        with connection:
            assert connection.recv(10) == b"", "said, and not broken off"


def test_a_handler_may_begin_tls_when_it_likes() -> None:
    async def handle(reader: Any, writer: Any) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        assert writer.get_extra_info("sslcontext") is None and writer.can_write_eof()
        writer.write(b"go on\n")
        await writer.start_tls(made)
        assert writer.get_extra_info("sslcontext") is made and not writer.can_write_eof()
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        with pytest.raises(RuntimeError, match="TLS already"):
            await writer.start_tls(made)
        await upper(reader, writer)

    made = context()
    with loops(handle, ssl=None) as server:
        with client(server) as plain:
            plain.sendall(b"STARTTLS\n")
            assert plain.recv(10) == b"go on\n"
            with secured(plain) as connection:
                connection.sendall(b"a\n")
                assert connection.recv(10) == b"A\n"
        with client(server) as plain:
            plain.sendall(b"STARTTLS\ninjected\n")
            answer = read_all(plain)
            assert answer.startswith(b"go on\n") and b"INJECTED" not in answer
        eventually(lambda: server.statistics()["failed"] == 1, "that is the handler's failure")


def lines(message: bytes) -> bytes:
    return message.upper()


def blocking(connection: Any) -> None:
    with connection.makefile("rwb", buffering=0) as file:
        for line in iter(file.readline, b""):
            file.write(line.upper())


@pytest.mark.parametrize("kind", ["messages", "later", "greenlet", "first byte"])
def test_all_kinds_of_handlers_have_it(kind: str) -> None:
    async def later(message: bytes) -> bytes:
        await asyncio.sleep(0.001)
        return message.upper()

    handler: Any = {"messages": lines, "later": later, "greenlet": blocking}.get(kind, lines)
    options: dict[str, Any] = {"proxy_protocol": "127.0.0.1"}
    if kind == "greenlet":
        pytest.importorskip("greenlet", reason="there is no greenlet for this Python")
        options["workers"] = "greenlet"
    else:
        options["framing"] = "lines"
    if kind == "first byte":
        options["first_byte_timeout"] = WATCHDOG
    with loops(handler, **options) as server, client(server) as plain:
        plain.sendall(HEADER)
        pieces = InPieces(plain)
        pieces.call(pieces.tls.do_handshake)
        # With the end of the handshake.
        pieces.tls.write(b"one\ntwo\n")
        pieces.flush(MEGABYTE)
        answer = b""
        while len(answer) < 8:
            answer += pieces.call(pieces.tls.read, 10)
        assert answer == b"ONE\nTWO\n"
        pieces.tls.write(b"three\n")
        pieces.flush(3)
        assert pieces.call(pieces.tls.read, 10) == b"THREE\n"
    assert server.statistics()["failed"] == 0


NAMES = (
    *("peername", "sockname", "socket", "sslcontext", "ssl_object", "peercert", "cipher"),
    *("compression", "nonsense"),
)


@pytest.mark.on_each_python
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_writer_knows_what_asyncio_knows(encrypted: bool) -> None:
    known: list[list[Any]] = []
    made = context() if encrypted else None

    async def handle(reader: Any, writer: Any) -> None:
        await reader.read(1)
        told = {name: writer.get_extra_info(name, "default") for name in NAMES}
        its = told["socket"]
        assert (its.getpeername(), its.getsockname()) == (told["peername"], told["sockname"])
        its.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert its.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        with its.dup() as other:
            assert other.fileno() != its.fileno() and other.getsockname() == its.getsockname()
        assert (its.type, its.family) == (socket.SOCK_STREAM, socket.AF_INET)
        compared = ("sslcontext", "peercert", "compression", "cipher", "nonsense")
        known.append([told[name] for name in compared] + [type(told["ssl_object"])])
        writer.close()
        await writer.wait_closed()
        assert its.fileno() == -1
        with pytest.raises(OSError, match="descriptor"):
            its.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)

    def ask(address: Any) -> None:
        with socket.create_connection(address, WATCHDOG) as plain:
            connection = secured(plain) if encrypted else plain
            with connection:
                connection.sendall(b"x")
                read_all(connection)

    async def theirs() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=made)
        async with server:
            await asyncio.to_thread(ask, server.sockets[0].getsockname())

    with loops(handle, ssl=made) as server:
        ask(server.server_address)
    asyncio.run(theirs())
    assert server.statistics()["failed"] == 0
    assert len(known) == 2 and known[0] == known[1]


def test_a_bad_context_is_an_error_of_whoever_gives_it() -> None:
    async def handle(_reader: Any, writer: Any) -> None:
        with pytest.raises(AttributeError):
            await writer.start_tls("context")
        writer.write(b"plain")

    with Server("127.0.0.1:0", handle, workers="coroutine") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with client(server) as connection:
            assert read_all(connection) == b"plain"
        server.shutdown()
        thread.join(WATCHDOG)
