"""`manyhands serve`: how it begins, reloads and ends, and what it tells systemd."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from eventually import eventually
from manyhands import _native
from serve_command import COMMAND, HANDLER, serve, write
from serving import WATCHDOG


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["thread:4", "process:1"])
def test_it_serves_until_a_signal(tmp_path: Path, workers: str, number: signal.Signals) -> None:
    write(tmp_path, "one")
    with serve(
        tmp_path, "handlers:answer", "--bind", "127.0.0.1:0", "--workers", workers
    ) as serving:
        version, pid = serving.ask()
        assert version == "one"
        assert (pid == serving.process.pid) == workers.startswith("thread")
        assert serving.end(number) == 0
    kind = "4 threads" if workers.startswith("thread") else "1 process"
    assert serving.said[0].endswith(f" with {kind}\n")
    assert len(serving.said) == 1, serving.said


def test_a_reload_loses_no_connection(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with serve(
        tmp_path, "handlers:answer", "--bind", "127.0.0.1:0", "--workers", "process:2"
    ) as serving:
        host, port = serving.address()
        reports = []

        def load() -> None:
            reports.append(
                _native.run_load(
                    f"{host}:{port}",
                    connections=4,
                    request=b"x",
                    answer=5,
                    reconnect=True,
                    seconds=4.0,
                )
            )

        loading = threading.Thread(target=load)
        loading.start()
        assert serving.ask()[0] == "one"
        write(tmp_path, "two")
        serving.process.send_signal(signal.SIGHUP)
        eventually(lambda: serving.versions() == {"two"}, "the new ones answer")
        write(tmp_path, "three", "def answer(: this is no Python")
        serving.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("the old ones go on" in line for line in serving.said), "it is said")
        # One of the first may not have heard yet that its time is over.
        eventually(lambda: serving.versions() == {"two"}, "only the second ones answer")
        loading.join(WATCHDOG)
        (report,) = reports
        assert report["failures"] == {}
        assert len(report["waits"]) > 100
        assert any("SyntaxError" in line for line in serving.said)
        assert serving.end() == 0


def test_threads_cannot_be_reloaded_and_go_on(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with serve(tmp_path, "handlers:answer", "--bind", "127.0.0.1:0") as serving:
        assert serving.ask()[0] == "one"
        serving.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("cannot be reloaded" in line for line in serving.said), "it is said")
        assert serving.ask()[0] == "one"
        assert serving.end() == 0


def test_it_asks_proxies_for_their_clients(tmp_path: Path) -> None:
    tell = "def answer(connection, address, server): connection.sendall(repr(address).encode())"
    write(tmp_path, "", tell)
    options = ("handlers:answer", "--bind", "127.0.0.1:0", "--proxy-protocol", "127.0.0.0/8,unix")
    with (
        serve(tmp_path, *options) as serving,
        socket.create_connection(serving.address(), WATCHDOG) as connection,
    ):
        connection.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 80\r\n")
        assert connection.recv(100) == b"('192.0.2.7', 5000)"
        assert serving.end() == 0


def test_it_answers_datagrams(tmp_path: Path) -> None:
    write(tmp_path, "", "def answer(data, address): return data.upper()")
    with (
        serve(tmp_path, "handlers:answer", "--bind", "udp:127.0.0.1:0") as serving,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        host, port = serving.address()
        client.settimeout(WATCHDOG)
        client.sendto(b"hello", (host.removeprefix("udp:"), port))
        assert client.recv(100) == b"HELLO"
        assert serving.end() == 0
    assert serving.said[0].startswith("serving at udp:127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere:answer"], "there is no module 'nowhere' in"),
        (["handlers:nobody"], "handlers has no 'nobody'"),
        (["handlers"], "write module:handler"),
        (["handlers:answer", "--bind", "nowhere"], "no address"),
        (["handlers:answer", "--bind", "fd:77"], "no inherited socket"),
        (["handlers:later", "--workers", "thread"], "later is an async function"),
        (["handlers:answer", "--certificate", "missing.pem"], "missing.pem"),
        (["handlers:answer", "--proxy-protocol", "nowhere"], "must be an address"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    tmp_path: Path, words: list[str], text: str
) -> None:
    write(tmp_path, "one", HANDLER + "\nasync def later(reader, writer): ...\n")
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 1
    assert text in done.stderr
    assert done.stderr.startswith("manyhands: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("workers", ["coroutine", "greenlet", "thread:2"])
def test_it_serves_messages_by_any_kind_of_worker(tmp_path: Path, workers: str) -> None:
    if workers == "greenlet":
        pytest.importorskip("greenlet", reason="there is no greenlet for this Python")
    write(tmp_path, "", "def answer(message): return message.upper()")
    options = ("--bind", "127.0.0.1:0", "--workers", workers, "--framing", "lines")
    with (
        serve(tmp_path, "handlers:answer", *options, "--limit", "10") as serving,
        socket.create_connection(serving.address(), WATCHDOG) as connection,
    ):
        connection.sendall(b"hello\n")
        assert connection.recv(100) == b"HELLO\n"
        connection.sendall(b"longer than ten\n")
        assert connection.recv(100) == b""
        assert serving.end() == 0
    assert any("longer than limit=10 bytes" in line for line in serving.said)


LATER = """
async def answer(reader, writer):
    writer.write(b"VERSION")
"""


@pytest.mark.on_each_python
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_handler_that_is_async_gets_an_event_loop(tmp_path: Path, number: signal.Signals) -> None:
    write(tmp_path, "one", LATER)
    with serve(tmp_path, "handlers:answer", "--bind", "127.0.0.1:0") as serving:
        with socket.create_connection(serving.address(), WATCHDOG) as connection:
            assert connection.recv(10) == b"one"
        assert serving.end(number) == 0
    assert len(serving.said) == 1, serving.said
    assert serving.said[0].endswith(" with 1 event loop, since the handler is async def\n")


@pytest.mark.on_each_python
def test_the_end_waits_for_a_handler_in_an_event_loop(tmp_path: Path) -> None:
    handler = """
import asyncio
async def answer(reader, writer):
    writer.write(b"here")
    await asyncio.sleep(0.3)
    writer.write(b"done")
"""
    write(tmp_path, "one", handler)
    with serve(
        tmp_path, "handlers:answer", "--bind", "127.0.0.1:0", "--workers", "coroutine:2"
    ) as serving:
        with socket.create_connection(serving.address(), WATCHDOG) as connection:
            assert connection.recv(10) == b"here"
            serving.process.send_signal(signal.SIGTERM)
            assert connection.recv(10) == b"done"
        assert serving.end(signal.SIGTERM) == 0
    assert serving.said[0].endswith(" with 2 event loops\n")
