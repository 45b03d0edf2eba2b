"""Proxies that say for whom they connect, rightly, wrongly, slowly, and without being asked to."""

from __future__ import annotations

import asyncio
import logging
import socket
import socketserver
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, ask, client, read_all, serving

CERTIFICATE = Path(__file__).parent.parent / "support" / "localhost.pem"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n"
CLIENT = ("192.0.2.7", 5000)


def binary(kind: int, rest: bytes, command: int = 0x21) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, kind, len(rest)) + rest


def inet(family: int, host: str, port: int) -> bytes:
    """Return the addresses of a header: of a client, and of the same as a server."""
    address = socket.inet_pton(family, host)
    return address + address + struct.pack("!HH", port, port)


class Clients(socketserver.BaseRequestHandler):
    """Answers with the address of the client, that of the peer, and what came."""

    def handle(self) -> None:
        said = read_all(self.request)
        answer = (self.client_address, self.request.getpeername(), said)
        self.request.sendall(repr(answer).encode())


def answer_of(server: Server, request: bytes) -> tuple[Any, Any, bytes]:
    answer: tuple[Any, Any, bytes] = eval(ask(server, request))
    return answer


def is_turned_away(connection: socket.socket, said: bytes) -> None:
    """Say something, and get no answer."""
    try:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b""
    except TimeoutError:
        raise
    except OSError:
        pass  # it was closed meanwhile, with bytes unread


HEADERS = {
    "line, IPv4": (LINE, CLIENT),
    "line, IPv6": (b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n", ("2001:db8::1", 7, 0, 0)),
    "binary, IPv4": (binary(0x11, inet(socket.AF_INET, *CLIENT)), CLIENT),
    "binary, IPv6": (
        binary(0x21, inet(socket.AF_INET6, "2001:db8::1", 7)),
        ("2001:db8::1", 7, 0, 0),
    ),
    "binary, Unix": (binary(0x31, b"/run/it".ljust(108, b"\0") * 2), "/run/it"),
    "binary, with 4 KB of vectors": (
        binary(0x11, inet(socket.AF_INET, *CLIENT) + struct.pack("!BH4000x", 4, 4000)),
        CLIENT,
    ),
}


@pytest.mark.parametrize(("header", "expected"), HEADERS.values(), ids=HEADERS)
def test_a_handler_learns_the_client_and_reads_what_follows(header: bytes, expected: Any) -> None:
    with serving(Clients, proxy_protocol="127.0.0.0/8") as server:
        address, peer, said = answer_of(server, header + b"hello")
    assert address == expected and said == b"hello"
    assert peer[0] == "127.0.0.1", "getpeername is the proxy"


UNKNOWN = {
    "line": b"PROXY UNKNOWN\r\n",
    "line with more": b"PROXY UNKNOWN whatever it is\r\n",
    "for itself": binary(0x00, b"", 0x20),
    "for itself, with more": binary(0xFF, b"whatever it is", 0x20),
    "unspecified": binary(0x00, b""),
    "of datagrams": binary(0x12, inet(socket.AF_INET, *CLIENT)),
}


@pytest.mark.parametrize("header", UNKNOWN.values(), ids=UNKNOWN)
def test_a_proxy_that_does_not_say_is_the_client_itself(header: bytes) -> None:
    with serving(Clients, proxy_protocol=["127.0.0.1"]) as server:
        address, peer, said = answer_of(server, header + b"hello")
    assert address == peer and said == b"hello"


def test_a_function_that_wants_the_address_takes_three_arguments() -> None:
    def tell(connection: socket.socket, address: Any, server: Server) -> None:
        connection.sendall(repr((address, server.server_address)).encode())

    with serving(tell, proxy_protocol="*") as server:
        assert eval(ask(server, LINE)) == (CLIENT, server.server_address)


BAD = {
    "no header": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01",
    "garbage": bytes(range(255, 0, -1)),
    "half a line": b"PROXY TCP4 192.0.2.7",
    "a bad address": b"PROXY TCP4 192.0.2.777 198.51.100.1 5000 80\r\n",
    "an endless line": b"PROXY TCP4 " + b"1" * 100_000,
    "without a carriage return": LINE.replace(b"\r", b""),
    "half a signature": SIGNATURE[:7],
    "another version": binary(0x11, bytes(12), 0x31),
    "another command": binary(0x11, bytes(12), 0x2F),
    "another family": binary(0x51, bytes(12)),
    "too short for its addresses": binary(0x21, bytes(12)),
    "too long": binary(0x11, bytes(5000)),
    "cut off": binary(0x11, bytes(12))[:-1],
    "a vector beyond the end": binary(0x11, bytes(12) + b"\4\xff\xff"),
    "a wrong checksum": binary(0x11, bytes(12) + b"\3\0\4abcd"),
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_what_is_no_header_is_logged_once_and_never_handled(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(Clients, proxy_protocol="127.0.0.1") as server:
        with client(server) as connection:
            me = connection.getsockname()
            is_turned_away(connection, said)
        eventually(lambda: server.statistics()["unproxied"] == 1, "it is counted")
        assert answer_of(server, LINE)[0] == CLIENT, "others are served"
        counts = server.statistics()
    assert counts["failed"] == counts["timed_out"] == 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.exc_info is None
    assert f"the client at {me} is not served: it" in record.message and "PROXY" in record.message


def test_a_header_in_pieces_is_whole_at_the_end() -> None:
    header, expected = HEADERS["binary, IPv6"]
    with serving(Clients, proxy_protocol="127.0.0.1") as server, client(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header + b"hello":
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        address, _, said = eval(read_all(connection))
    assert address == expected and said == b"hello"


def test_those_that_only_look_are_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Clients, proxy_protocol="127.0.0.1") as server:
        for _ in range(5):
            client(server).close()
        eventually(lambda: server.statistics()["unproxied"] == 5, "all have been seen")
    assert not caplog.records


def test_strangers_are_not_served_and_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(Clients, proxy_protocol="10.0.0.0/8,unix") as server:
        for request in (LINE, b"hello", LINE):
            with client(server) as connection:
                is_turned_away(connection, request)
        eventually(lambda: server.statistics()["unproxied"] == 3, "all have been seen")
    (record,) = caplog.records
    assert "not among the proxies that are trusted (10.0.0.0/8,unix)" in record.message


def test_unix_sockets_are_trusted_by_their_name(tmp_path: Path) -> None:
    with serving(Clients, tmp_path / "yes", proxy_protocol="unix") as server:
        assert answer_of(server, LINE)[0] == CLIENT
    with serving(Clients, tmp_path / "no", proxy_protocol="127.0.0.1") as server:
        with client(server) as connection:
            is_turned_away(connection, LINE)
        eventually(lambda: server.statistics()["unproxied"] == 1, "it is counted")


def test_a_proxy_by_ipv4_is_known_at_a_socket_of_ipv6() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    listening = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with listening, serving(Clients, listening, proxy_protocol="127.0.0.1") as server:
        port = server.server_address[1]
        with socket.create_connection(("127.0.0.1", port), WATCHDOG) as connection:
            connection.sendall(LINE)
            connection.shutdown(socket.SHUT_WR)
            assert eval(read_all(connection))[0] == CLIENT
        with socket.create_connection(("::1", port), WATCHDOG) as connection:
            assert read_all(connection) == b"", "that is another address"


def test_a_silent_proxy_holds_up_nobody() -> None:
    with serving(
        Clients, proxy_protocol="127.0.0.1", handshake_timeout=1000.0, max_workers=2
    ) as server:
        with client(server):
            eventually(lambda: server.statistics()["active"] == 1, "it is waited for")
            for _ in range(20):
                assert answer_of(server, LINE)[0] == CLIENT


def test_a_slow_proxy_has_one_deadline(caplog: pytest.LogCaptureFixture) -> None:
    limit = 0.5
    with (
        serving(Clients, proxy_protocol="127.0.0.1", handshake_timeout=limit) as server,
        client(server) as slow,
    ):
        began = time.monotonic()
        slow.settimeout(limit / 20)
        # At this pace all of it takes more than twice the limit.
        for byte in LINE:
            try:
                slow.sendall(bytes([byte]))
                assert slow.recv(100) == b"", "what else"
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break  # it was closed with bytes unread
        else:
            pytest.fail("it was allowed as much time as it liked")
        assert time.monotonic() - began >= limit
        eventually(lambda: server.statistics()["unproxied"] == 1, "it is counted")
    assert "has not sent a whole PROXY header within 0.5 s" in caplog.text


def test_the_end_does_not_wait_for_a_silent_proxy() -> None:
    with serving(Clients, proxy_protocol="127.0.0.1", handshake_timeout=1000.0) as server:
        with client(server) as silent:
            eventually(lambda: server.statistics()["active"] == 1, "it is waited for")
            server.shutdown(grace=0)
            assert silent.recv(1) == b""


def test_tls_comes_after_the_header() -> None:
    def tell(connection: socket.socket, address: Any, _server: Server) -> None:
        connection.sendall(repr(address).encode())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with (
        serving(tell, proxy_protocol="127.0.0.1", ssl=context) as server,
        client(server) as connection,
    ):
        # The header goes in one segment with the first words of the handshake.
        words = LINE
        answer = b""
        while not answer:
            try:
                tls.do_handshake()
                answer = tls.read()
            except ssl.SSLWantReadError:
                connection.sendall(words + outgoing.read())
                words = b""
                incoming.write(connection.recv(65536))
    assert eval(answer) == CLIENT


def test_the_header_and_the_handshake_have_one_deadline() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with (
        serving(Clients, proxy_protocol="127.0.0.1", ssl=context, handshake_timeout=0.5) as server,
        client(server) as connection,
    ):
        connection.sendall(LINE)
        assert connection.recv(1) == b""
        eventually(lambda: server.statistics()["disconnected"] == 1, "it is counted")


def test_processes_read_headers() -> None:
    options: dict[str, Any] = {"workers": "process", "max_workers": 1}
    with serving(Clients, proxy_protocol=["127.0.0.1", "unix"], **options) as server:
        assert answer_of(server, LINE + b"hello")[::2] == (CLIENT, b"hello")
        with client(server) as connection:
            is_turned_away(connection, b"hello")
        eventually(lambda: server.statistics()["unproxied"] == 1, "it is counted")


async def tell_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client, proxy = writer.get_extra_info("peername"), writer.get_extra_info("socket")
    said = await reader.read()
    writer.write(repr((client, proxy.getpeername(), said)).encode())


def tell_message(message: bytes, address: Any) -> bytes:
    return repr((address, message)).encode()


@pytest.mark.parametrize("workers", ["coroutine", "process"])
def test_event_loops_read_headers(workers: Any, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"workers": workers, "max_workers": 1}
    with serving(tell_streams, proxy_protocol="127.0.0.1", **options) as server:
        for header, expected in HEADERS.values():
            address, proxy, said = answer_of(server, header + b"hello")
            assert (address, said) == (expected, b"hello") and proxy[0] == "127.0.0.1"
        for header in UNKNOWN.values():
            address, proxy, said = answer_of(server, header + b"hello")
            assert (address, said) == (proxy, b"hello")
        for said in BAD.values():
            with client(server) as connection:
                is_turned_away(connection, said)
        client(server).close()
        eventually(lambda: server.statistics()["unproxied"] == len(BAD) + 1, "all are counted")
    if workers == "coroutine":
        assert len(caplog.records) == len(BAD)


def test_messages_of_event_loops_have_the_clients_address() -> None:
    options: dict[str, Any] = {"workers": "coroutine", "framing": "lines"}
    with serving(tell_message, proxy_protocol="*", **options) as server:
        assert eval(ask(server, LINE + b"hello\n")) == (CLIENT, b"hello")


def test_an_event_loop_gives_a_header_its_time_and_no_more() -> None:
    options: dict[str, Any] = {"workers": "coroutine", "handshake_timeout": 0.3}
    with serving(tell_streams, proxy_protocol="*", **options) as server:
        with client(server) as slow:
            slow.sendall(LINE[:20])
            assert answer_of(server, LINE)[0] == CLIENT, "others are served meanwhile"
            assert slow.recv(1) == b""
        eventually(lambda: server.statistics()["unproxied"] == 1, "it is counted")
    options["handshake_timeout"] = 1000.0
    with serving(tell_streams, proxy_protocol="*", **options) as server, client(server) as silent:
        eventually(lambda: server.statistics()["active"] == 1, "it is waited for")
        server.shutdown(grace=0)
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    ("peers", "error", "text"),
    [
        (True, TypeError, "must name the proxies"),
        (7, TypeError, "must name the proxies"),
        ("", ValueError, "must be an address"),
        ([], ValueError, "must be an address"),
        ("localhost", ValueError, "must be an address"),
        ("10.0.0.1/8", ValueError, "address within a network: write 10.0.0.1"),
    ],
)
def test_what_names_no_proxies_is_refused(peers: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Server(("127.0.0.1", 0), Clients, proxy_protocol=peers)
