"""How servers of applications reload and end, and what they do for clients meanwhile."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from eventually import eventually
from http_client import Connection, ask, connected, context
from manyhands._server.http_server import HttpServer
from serving import WATCHDOG, read_all, running
from serving import client as connect_plainly

APPS = Path(__file__).parent.parent / "support" / "http_apps.py"
BOTH = pytest.mark.parametrize("interface", ["wsgi", "asgi"])


def http_server(interface: Any, module: str = "http_apps", **options: Any) -> HttpServer:
    return HttpServer(("127.0.0.1", 0), f"{module}:{interface}", interface=interface, **options)


@contextmanager
def in_thread(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """Call it beside the block."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(WATCHDOG)
    assert not thread.is_alive()


def pid_of(server: HttpServer) -> int:
    return int(ask(server, "/").body)


def hold(connection: Connection, folder: Path) -> None:
    """Have a request in the middle of being served, until the test says."""
    connection.request("GET", f"/hold?{quote(str(folder))}")
    eventually(lambda: list(folder.glob("begun-*")), "it is being served")


def unread(connection: Connection) -> int:
    """Return how many bytes the server's kernel has for it that nobody has read."""
    host, port = connection.sock.getsockname()
    end = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[2] == end:
            return int(fields[4].partition(":")[2], 16)
    return 0


def is_closed(connection: Connection) -> bool:
    """Whether the server has ended it."""
    return connection.sock.recv(1, socket.MSG_PEEK) == b""


@BOTH
def test_the_end_closes_what_is_idle_and_waits_for_what_is_not(
    interface: str, tmp_path: Path
) -> None:
    with running(http_server(interface, grace=WATCHDOG)) as server:
        with connected(server) as idle, connected(server) as busy:
            assert idle.ask("/echo", b"x").body == b"x"
            hold(busy, tmp_path)
            with in_thread(server.shutdown) as ending:
                assert is_closed(idle)
                assert ending.is_alive()
                (tmp_path / "go").touch()
                answer = busy.read()
            assert answer.status == 200 and answer.headers["connection"] == "close"
    numbers = server.statistics()
    assert (numbers["accepted"], numbers["served"], numbers["requests"]) == (2, 2, 2)
    assert numbers["active"] == numbers["dropped"] == 0


@BOTH
def test_what_has_had_its_grace_is_ended_and_counted(
    interface: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(http_server(interface, grace=0.2)) as server:
        with connected(server) as busy:
            hold(busy, tmp_path)
            server.shutdown()
            with pytest.raises(ConnectionError):
                busy.read()
    assert server.statistics()["dropped"] == 1
    assert "ends with 1 connections unserved" in capfd.readouterr().err


@BOTH
def test_a_first_request_that_is_under_way_is_served(interface: str) -> None:
    """Its client has connected before the end, and speaks after it has begun."""
    with running(http_server(interface)) as server:
        with connected(server) as idle, connected(server) as fresh:
            assert idle.ask("/echo", b"x").body == b"x"
            eventually(lambda: server.statistics()["active"] == 2, "both are accepted")
            with in_thread(server.shutdown):
                assert is_closed(idle)  # so the end has begun
                assert fresh.ask("/echo", b"in time").body == b"in time"


@BOTH
def test_clients_that_say_nothing_do_not_hold_up_the_end(interface: str) -> None:
    with running(http_server(interface, grace=WATCHDOG)) as server:
        with connect_plainly(server) as silent:
            eventually(lambda: server.statistics()["active"] == 1, "it is accepted")
            with in_thread(server.shutdown):
                assert silent.recv(1) == b""


@BOTH
def test_clients_in_the_queue_are_there_for_the_next_run(interface: str, tmp_path: Path) -> None:
    server = http_server(interface, grace=WATCHDOG)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    with connected(server) as idle, connected(server) as busy:
        assert idle.ask("/echo", b"x").body == b"x"
        hold(busy, tmp_path)
        with in_thread(server.shutdown):
            assert is_closed(idle)  # so nobody is accepted any more
            with connected(server) as late:
                late.request("GET", "/")
                (tmp_path / "go").touch()
                first = int(busy.read().body)
                serving.join(WATCHDOG)
                with running(server):
                    assert int(late.read().body) != first


@BOTH
def test_no_more_connections_than_there_may_be(interface: str) -> None:
    with running(http_server(interface, max_connections=1)) as server:
        with connected(server) as first, connected(server) as second:
            assert first.ask("/echo", b"1").body == b"1"
            second.request("POST", "/echo", b"2")
            assert first.ask("/echo", b"3").body == b"3"
            assert server.statistics()["accepted"] == 1
            first.close()
            assert second.read().body == b"2"


@BOTH
def test_who_does_not_finish_the_handshake_is_sent_away(interface: str) -> None:
    with running(http_server(interface, ssl=context, handshake_timeout=0.2)) as server:
        with connect_plainly(server) as stalls:
            assert ask(server, "/echo", b"x", tls=True).body == b"x"
            assert read_all(stalls) == b""
        eventually(lambda: server.statistics()["disconnected"] == 1, "it is counted")


@BOTH
def test_a_killed_process_is_replaced(interface: str) -> None:
    with running(http_server(interface)) as server:
        before = pid_of(server)
        os.kill(before, signal.SIGKILL)
        assert pid_of(server) != before
        assert server.statistics()["replaced"] == 1


@BOTH
def test_a_process_that_gets_sigterm_ends_as_if_it_were_asked(
    interface: str, tmp_path: Path
) -> None:
    with running(http_server(interface, grace=WATCHDOG)) as server:
        with connected(server) as idle, connected(server) as busy:
            old = int(idle.ask("/").body)
            hold(busy, tmp_path)
            os.kill(old, signal.SIGTERM)
            assert is_closed(idle)
            (tmp_path / "go").touch()
            assert int(busy.read().body) == old
        assert pid_of(server) != old
        assert server.statistics()["replaced"] == 0


@BOTH
def test_a_request_of_which_a_part_has_come_is_served(interface: str) -> None:
    with running(http_server(interface, grace=WATCHDOG)) as server:
        with connected(server) as idle, connected(server) as first, connected(server) as second:
            for used in (idle, second):
                assert used.ask("/echo", b"x").body == b"x"
            begun = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-"
            rest = b"Length: 3\r\n\r\none"
            first.sock.sendall(begun + rest[:-1])
            second.sock.sendall(begun)
            eventually(lambda: unread(first) + unread(second) == 0, "it has been read")
            with in_thread(server.shutdown):
                assert is_closed(idle)
                first.sock.sendall(rest[-1:])
                second.sock.sendall(rest)
                for connection in (first, second):
                    answer = read_all(connection.sock)
                    assert answer.startswith(b"HTTP/1.1 200") and b"one" in answer


@BOTH
def test_a_reload(
    interface: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """New processes have what the module is now; if they cannot start, the old ones go on."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / f"reloaded_{interface}.py"
    shutil.copy(APPS, module)
    with running(http_server(interface, module.stem)) as server, connected(server) as busy:
        hold(busy, tmp_path)
        old = int(next(tmp_path.glob("begun-*")).name.split("-")[1])
        module.write_text(APPS.read_text().replace("it is a ", "it was a "))
        server.reload()
        eventually(lambda: b"it was a " in ask(server, "/page").body, "the new ones serve")
        (tmp_path / "go").touch()
        assert int(busy.read().body) == old
        module.write_text("this is no Python")
        server.reload()
        eventually(lambda: "the old ones go on" in caplog.text, "it is said")
        assert b"it was a " in ask(server, "/page").body


def test_an_application_that_does_not_start_up_leaves_the_old_ones(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with running(http_server("asgi")) as server:
        before = pid_of(server)
        monkeypatch.setenv("MANYHANDS_TEST_NO_START", "1")
        server.reload()
        eventually(lambda: "the old ones go on" in caplog.text, "it is said")
        assert pid_of(server) == before
    assert "as the test wishes" in capfd.readouterr().err
    with http_server("asgi") as server, pytest.raises(OSError, match="has ended with 3"):
        server.serve_forever()


def test_websockets_are_told_of_the_end() -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with running(http_server("asgi", grace=WATCHDOG)) as server:
        with connect(
            "ws://{}:{}/".format(*server.server_address), open_timeout=WATCHDOG
        ) as websocket:
            websocket.send("dino")
            assert websocket.recv(WATCHDOG) == "dino"
            server.shutdown()
            with pytest.raises(ConnectionClosed) as closed:
                websocket.recv(WATCHDOG)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1012


@BOTH
def test_an_end_says_nothing_if_all_is_well(
    interface: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO), running(http_server(interface)) as server:
        with connected(server) as idle:
            assert idle.ask("/echo", b"x").body == b"x"
            server.shutdown()
    assert not caplog.records
    assert capfd.readouterr().err == ""
