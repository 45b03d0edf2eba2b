"""Handlers of messages: replies keep their order, and no length is believed."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventually import eventually
from manyhands import _native
from manyhands.server import Server
from serving import WATCHDOG, ask, client, read_all, serving

CERTIFICATE = Path(__file__).parent.parent / "support" / "localhost.pem"
WORKERS = ("thread", "coroutine")


def upper(message: bytes) -> bytes:
    return message.upper()


async def later(message: bytes) -> bytes:
    await asyncio.sleep(0 if len(message) % 2 else 0.001)
    return message.upper()


KINDS = [("thread", upper), ("coroutine", upper), ("coroutine", later)]


@pytest.mark.parametrize(("workers", "handler"), KINDS)
def test_lines_are_answered_in_order_however_they_come(workers: str, handler: Any) -> None:
    lines = [b"line %d" % number for number in range(500)]
    sent = b"\r\n".join(lines)
    with (
        serving(handler, workers=workers, framing="lines") as server,
        client(server) as connection,
    ):
        for begin in range(0, len(sent), 777):
            connection.sendall(sent[begin : begin + 777])
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"".join(line.upper() + b"\n" for line in lines)


@pytest.mark.parametrize(("workers", "handler"), KINDS)
def test_messages_may_be_preceded_by_their_length(workers: str, handler: Any) -> None:
    def framed(*messages: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(message)) + message for message in messages)

    with serving(handler, workers=workers, framing="u32") as server:
        assert ask(server, framed(b"one", b"", b"x\ny")) == framed(b"ONE", b"", b"X\nY")
        assert ask(server, framed(b"one") + b"\0\0\0\x05tw") == framed(b"ONE")


@pytest.mark.parametrize(("workers", "handler"), KINDS)
def test_a_message_may_be_what_has_come(workers: str, handler: Any) -> None:
    with serving(handler, workers=workers, framing="raw") as server:
        assert ask(server, b"a" * 200_000) == b"A" * 200_000


@pytest.mark.parametrize("workers", WORKERS)
def test_a_message_need_not_be_answered(workers: str) -> None:
    def only_questions(message: bytes) -> bytes | None:
        return b"yes" if message.endswith(b"?") else None

    with serving(only_questions, workers=workers, framing="lines") as server:
        assert ask(server, b"a\nb?\nc\n") == b"yes\n"


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    ("framing", "sent"),
    [("lines", b"ok\n" + b"x" * 200), ("u32", b"\0\0\0\x02ok\xff\xff\xff\xff")],
)
def test_what_is_too_long_ends_the_connection_and_nothing_else(
    workers: str, framing: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(upper, workers=workers, framing=framing, limit=100) as server:
        with client(server) as connection:
            connection.sendall(sent)
            answer = b""
            try:
                while part := connection.recv(100):
                    answer += part
            except ConnectionResetError:
                pass  # it had not read all that came
            assert b"OK" in answer, "what came before is answered"
        eventually(lambda: server.statistics()["failed"] == 1, "the failure is counted")
        assert ask(server, b"\0\0\0\x01a\n") is not None
    assert "a message is longer than limit=100 bytes" in caplog.text


@pytest.mark.parametrize(("workers", "handler"), KINDS)
def test_a_handler_that_fails_has_answered_what_came_before(
    workers: str, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(message: bytes) -> Any:
        if message == b"bad":
            raise ZeroDivisionError("no dinosaurs")
        return handler(message)

    async def fails_later(message: bytes) -> Any:
        return await fails(message)

    broken = fails_later if handler is later else fails
    with serving(broken, workers=workers, framing="lines") as server:
        assert ask(server, b"one\nbad\ntwo\n") == b"ONE\n"
        assert ask(server, b"three\n") == b"THREE\n"
    assert "no dinosaurs" in caplog.text
    caplog.clear()  # a traceback keeps all frames below it, and so the thread of the loop


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("nonsense", [3, "text", object()])
def test_a_reply_that_is_none_is_named(
    workers: str, nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(lambda _: nonsense, workers=workers, framing="lines") as server:
        assert ask(server, b"one\n") == b""
    assert f"returns bytes or None, not {type(nonsense).__name__}" in caplog.text


@pytest.mark.parametrize("workers", WORKERS)
def test_each_connection_has_a_context_and_an_address(workers: str) -> None:
    seen: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)

    def count(_message: bytes, address: Any) -> bytes:
        seen.set(seen.get() + 1)
        return f"{seen.get()} {address[1]}".encode()

    with serving(count, workers=workers, framing="lines") as server:
        for _ in range(2):
            with client(server) as connection:
                port = connection.getsockname()[1]
                connection.sendall(b"a\nb\n")
                connection.shutdown(socket.SHUT_WR)
                assert read_all(connection) == f"1 {port}\n2 {port}\n".encode()


@pytest.mark.parametrize("handler", [upper, later])
def test_a_client_that_takes_no_replies_is_not_read_any_more(handler: Any) -> None:
    message = b"x" * 1000 + b"\n"
    with (
        serving(handler, workers="coroutine", framing="lines") as server,
        client(server) as connection,
    ):
        connection.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(200):
                sent += connection.send(message * 100)
        whole, rest = divmod(sent, len(message))
        connection.settimeout(20)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
        assert answer.count(b"\n") == whole + bool(rest)


@pytest.mark.parametrize(("workers", "handler"), KINDS)
def test_messages_come_over_tls(workers: str, handler: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    ours = ssl.create_default_context(cafile=str(CERTIFICATE))
    with (
        serving(handler, workers=workers, framing="lines", ssl=context) as server,
        client(server) as plain,
        ours.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"one\ntwo\n")
        assert connection.recv(4) + connection.recv(4) == b"ONE\nTWO\n"


def test_processes_serve_messages() -> None:
    with (
        serving(str_of_pid, workers="process", max_workers=1, framing="lines") as server,
        client(server) as connection,
    ):
        connection.sendall(b"who\n")
        assert int(connection.recv(100)) > 0


def str_of_pid(_message: bytes) -> bytes:
    import os

    return b"%d" % os.getpid()


def test_a_handler_that_does_not_fit_is_refused() -> None:
    class Handler:
        def __init__(self, message: bytes) -> None: ...

    async def waits(message: bytes) -> bytes:
        return message

    refused: list[tuple[Any, str, str]] = [
        (Handler, "thread", "cannot handle messages"),
        (lambda: b"", "coroutine", "cannot handle messages"),
        (waits, "thread", "workers='coroutine'"),
    ]
    for handler, workers, said in refused:
        with pytest.raises(TypeError, match=said):
            Server("127.0.0.1:0", handler, workers=workers, framing="lines")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'json' must be 'lines', 'u32' or 'raw'"):
        Server("127.0.0.1:0", upper, framing="json")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit=0 must be at least 1"):
        Server("127.0.0.1:0", upper, framing="raw", limit=0)


@given(
    stream=st.binary(max_size=60).map(lambda data: data.replace(b"\x7f", b"\r\n")),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_lines_are_those_of_asyncio(stream: bytes, cuts: list[int]) -> None:
    """However a stream is split, lines are those of `asyncio.StreamReader`, without their ends."""

    async def model() -> list[bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(stream)
        reader.feed_eof()
        lines = []
        while line := await reader.readline():
            lines.append(line[:-1].removesuffix(b"\r") if line.endswith(b"\n") else line)
        return lines

    framer = _native.MessageFramer("lines", 1000)
    found: list[bytes] = []
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in itertools.pairwise(places):
        if begin < end:
            found += framer.feed(stream[begin:end])
    found += framer.feed(b"")
    assert found == asyncio.run(model())


@pytest.mark.parametrize("workers", WORKERS)
def test_a_handler_may_end_the_server(workers: Any) -> None:
    def handle(message: bytes) -> bytes:
        if message == b"end":
            server.shutdown()
        return message

    with serving(handle, workers=workers, framing="lines", grace=WATCHDOG) as server:
        assert ask(server, b"one\nend\n") == b"one\nend\n"
