"""`ForkingMixIn` of the drop-in for `socketserver`: its own children, and no others."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import manyhands.server as socketserver
from children import thread
from eventually import eventually
from manyhands._server.serving import serving_of
from served import LOCALHOST, NEVER_S, WAIT_S, Echo, answer, served, wait_until_it_polls
from serving import client as connected


class Held(socketserver.BaseRequestHandler):
    """Says the number of its process, and goes on when it is told to."""

    def handle(self) -> None:
        self.request.sendall(str(os.getpid()).encode())
        self.request.recv(10)


class Busy(socketserver.ForkingTCPServer):
    """Handles two requests at a time."""

    max_children = 2


def hold(server: Any) -> tuple[socket.socket, int]:
    """Return a connection, and the process that handles it."""
    client = connected(server)
    return client, int(client.recv(100))


def let_go(client: socket.socket) -> None:
    """Have a handler go on; to close the connection is not enough, as its process has both ends."""
    with client:
        client.sendall(b"go")


def wait_until_zombie(pid: int) -> None:
    eventually(lambda: is_zombie(pid), "the child has ended")


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_children_are_reaped_as_soon_as_they_end() -> None:
    with served(socketserver.ForkingTCPServer(LOCALHOST, Held)) as server:
        client, child = hold(server)
        assert server.active_children == {child}
        let_go(client)
        # Nothing else happens, and nothing is polled.
        eventually(lambda: not server.active_children, "the child is reaped")
        assert not Path(f"/proc/{child}").exists()


def test_a_child_that_was_reaped_is_not_told_of_again() -> None:
    """A younger child has its descriptor, too, so that the kernel has not forgotten it."""
    with served(socketserver.ForkingTCPServer(LOCALHOST, Held)) as server:
        older, child = hold(server)
        younger, other = hold(server)
        let_go(older)
        eventually(lambda: server.active_children == {other}, "the older one is reaped")
        assert not Path(f"/proc/{child}").exists()
        assert select.select([serving_of(server).children], [], [], 0) == ([], [], [])
        let_go(younger)


def test_children_of_others_are_left_alone() -> None:
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    eventually(lambda: is_zombie(other.pid), "the other child has ended")
    with served(Busy(LOCALHOST, Echo)) as server:
        for _ in range(10):
            assert answer(server) == b"hello\n"
        eventually(lambda: not server.active_children, "all are reaped")
    # The standard library waits for any child when there are as many as are allowed.
    with Busy(LOCALHOST, Held) as server:
        clients = []
        for _ in range(2):
            clients.append(connected(server))
            server.handle_request()
        third = connected(server)
        with thread(server.handle_request) as waits:
            let_go(clients.pop())
            waits.join(WAIT_S)
        assert third.recv(100)
        for client in (third, *clients):
            let_go(client)
    assert other.wait() == 7


def test_no_more_children_at_a_time_than_allowed_and_none_is_lost() -> None:
    with served(Busy(LOCALHOST, Held)) as server:
        first, second = hold(server)[0], hold(server)[0]
        waiting = [connected(server) for _ in range(5)]
        eventually(lambda: not server._may_accept(), "the server is full")
        let_go(first)
        let_go(second)
        for client in waiting:
            assert client.recv(100)
            assert len(server.active_children or ()) <= 2
            let_go(client)


def test_a_server_that_is_full_is_shut_down_at_once() -> None:
    server = Busy(LOCALHOST, Held)
    with thread(server.serve_forever, NEVER_S) as loop:
        clients = [hold(server)[0] for _ in range(2)]
        eventually(lambda: not server._may_accept(), "the server is full")
        wait_until_it_polls(loop)
        server.shutdown()
        for client in clients:
            let_go(client)
    server.server_close()


def test_nonsense_is_refused() -> None:
    class Server(socketserver.ForkingTCPServer):
        max_children = 0

    with (
        Server(LOCALHOST, Echo) as server,
        pytest.raises(ValueError, match="max_children of Server"),
    ):
        server.serve_forever()


def test_single_requests_leave_no_zombies() -> None:
    with socketserver.ForkingTCPServer(LOCALHOST, Held) as server:
        for _ in range(10):
            client = connected(server)
            server.handle_request()
            child = int(client.recv(100))
            let_go(client)
            wait_until_zombie(child)
        assert server.active_children is not None
        assert len(server.active_children) == 1


def test_children_that_somebody_else_reaps_are_forgotten() -> None:
    with served(socketserver.ForkingTCPServer(LOCALHOST, Held)) as server:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps all children
        try:
            for _ in range(3):
                let_go(hold(server)[0])
            eventually(lambda: not server.active_children, "all are forgotten")
        finally:
            signal.signal(signal.SIGCHLD, before)


def test_closing_waits_for_what_is_handled() -> None:
    server = socketserver.ForkingTCPServer(LOCALHOST, Held)
    with thread(server.serve_forever):
        client, child = hold(server)
        server.shutdown()
        with thread(server.server_close) as closing:
            eventually(lambda: server.socket.fileno() == -1, "the listener is closed")
            assert closing.is_alive()
            let_go(client)
            closing.join(WAIT_S)
        assert not Path(f"/proc/{child}").exists()


def test_closing_does_not_wait_if_told_so_and_the_next_server_reaps() -> None:
    server = socketserver.ForkingTCPServer(LOCALHOST, Held)
    server.block_on_close = False
    with thread(server.serve_forever):
        client, child = hold(server)
        server.shutdown()
    server.server_close()
    assert Path(f"/proc/{child}").exists()
    let_go(client)
    wait_until_zombie(child)
    with served(socketserver.ForkingTCPServer(LOCALHOST, Echo)) as other:
        answer(other)
        eventually(lambda: not is_zombie(child), "it is reaped")


def test_without_descriptors_for_them_children_are_reaped_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with served(Busy(LOCALHOST, Held), poll_interval=0.01) as server:
        for _ in range(6):
            let_go(hold(server)[0])
        eventually(lambda: not server.active_children, "all are reaped")
    with Busy(LOCALHOST, Held) as server:
        for _ in range(4):
            client = connected(server)
            server.handle_request()
            let_go(client)


def test_a_handler_may_close_what_its_process_has_of_the_server() -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.server.server_close()
            self.request.sendall(b"closed")

    with served(socketserver.ForkingTCPServer(LOCALHOST, Handler)) as server:
        for _ in range(3):
            assert answer(server, b"") == b"closed"


def test_a_child_never_returns_whatever_its_handler_does(capfd: pytest.CaptureFixture[str]) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            word = self.rfile.readline().strip()
            if word == b"raise":
                raise ValueError("of the handler")
            if word == b"exit":
                sys.exit(3)
            os.kill(os.getpid(), signal.SIGKILL)

    with served(socketserver.ForkingTCPServer(LOCALHOST, Handler)) as server:
        for word in (b"raise\n", b"exit\n", b"die\n"):
            assert answer(server, word) == b""
        eventually(lambda: not server.active_children, "all are reaped")
    assert "ValueError: of the handler" in capfd.readouterr().err


def test_nothing_stays_open_after_many_children() -> None:
    with served(socketserver.ForkingTCPServer(LOCALHOST, Echo)) as server:
        answer(server)
        eventually(lambda: not server.active_children, "all are reaped")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            assert answer(server) == b"hello\n"
        eventually(lambda: not server.active_children, "all are reaped")
        eventually(lambda: len(os.listdir("/proc/self/fd")) == before, "nothing more is open")


def test_waiting_for_children_costs_nothing() -> None:
    with socketserver.ForkingTCPServer(LOCALHOST, Held) as server:
        client = connected(server)
        server.handle_request()
        assert client.recv(100)
        used = time.thread_time()
        with thread(let_go_soon, client):
            server.collect_children(blocking=True)
        assert not server.active_children
        # In half a second; a loop that looks without a pause uses all of that.
        assert time.thread_time() - used < 0.25


def let_go_soon(client: socket.socket) -> None:
    time.sleep(0.5)
    let_go(client)
