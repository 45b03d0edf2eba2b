"""`manyhands top`: the servers that it finds, and how it shows them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, ask, client, serving
from terminal import COMMAND, Terminal


def echo(connection: socket.socket) -> None:
    while data := connection.recv(100):
        connection.sendall(data)


def shown(server: Server) -> dict[str, Any] | None:
    """Return what is shown of a server, if anything is."""
    words = [*COMMAND, "top", "--once", "--json"]
    done = subprocess.run(words, capture_output=True, check=True, timeout=WATCHDOG)
    here = server.report()["address"]
    found = [each for each in json.loads(done.stdout)["servers"] if each["address"] == here]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_server_is_shown_while_it_serves(workers: Any) -> None:
    with serving(echo, workers=workers, max_workers=2) as server, client(server) as open_one:
        open_one.sendall(b"x")
        assert open_one.recv(1) == b"x"
        assert ask(server, b"x") == b"x"
        eventually(lambda: server.report()["phase"] == "serving", "all processes do")
        eventually(lambda: server.statistics()["served"] == 1, "it is counted")
        found = shown(server)
        assert found is not None
        assert (found["workers"], found["phase"]) == (workers, "serving")
        assert found["parent"]["pid"] == found["pid"] == os.getpid()
        assert found["statistics"] == server.statistics()
        pids = [each["pid"] for each in server.report()["processes"]]
        assert sorted(each["pid"] for each in found["processes"]) == sorted(pids)
        assert sum(each["statistics"]["active"] for each in found["processes"]) == len(pids) // 2
    assert shown(server) is None


def test_a_stopped_process_is_shown_as_it_was_and_then_as_silent() -> None:
    with serving(echo, workers="process", max_workers=1, metrics=0) as server:
        with client(server) as open_one:
            open_one.sendall(b"x")
            assert open_one.recv(1) == b"x"
            eventually(lambda: server.report()["answers"], "it answers")
            (process,) = server.report()["processes"]
            os.kill(process["pid"], signal.SIGSTOP)
            found = shown(server)
            assert found is not None
            assert found["processes"][0]["statistics"]["active"] == 1
            with Terminal(80, "top", "--interval", "0.3") as screen:
                screen.read_until(rf"{process['pid']}  no answer for \d+\.\d s")
            os.kill(process["pid"], signal.SIGKILL)


def test_the_screen_says_what_happens_each_second() -> None:
    with serving(echo) as server:
        host, port = server.server_address
        done = threading.Event()

        def come_and_go() -> None:
            while not done.is_set():
                assert ask(server, b"x") == b"x"

        clients = threading.Thread(target=come_and_go)
        clients.start()
        try:
            with Terminal(100, "top", "--interval", "0.3") as screen:
                screen.press(f"/{host}:{port}\r".encode())
                screen.read_until(rf"{os.getpid()} .*[1-9][\d,.]* accepted/s · [\d,.]+ served/s")
                screen.press(b"q")
                assert screen.end() == 0
        finally:
            done.set()
            clients.join(WATCHDOG)
