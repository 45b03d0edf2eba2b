"""Processes that are forked where a server is: they leave it alone, and end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, client, read_all, serving

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


def status_of(child: int) -> int:
    """Wait for a child, and return the status that it has ended with."""
    deadline = time.monotonic() + WATCHDOG
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail(f"process {child} does not end")


def child_that(does: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            does()
        finally:
            os._exit(9)
    return child


@pytest.mark.parametrize("leaves", ["returns", "exits", "raises"])
def test_a_child_of_a_handler_ends_with_it(leaves: str) -> None:
    children: list[int] = []
    forked, may_answer = threading.Event(), threading.Event()

    def handler(connection: socket.socket) -> None:
        child = os.fork()
        if child == 0:
            if leaves == "exits":
                raise SystemExit(3)
            if leaves == "raises":
                raise ZeroDivisionError
            return
        children.append(child)
        forked.set()
        assert may_answer.wait(WATCHDOG)
        connection.sendall(b"from the parent")

    with serving(handler) as server, client(server) as connection:
        assert forked.wait(WATCHDOG)
        status = status_of(children[0])
        may_answer.set()
        assert read_all(connection) == b"from the parent", "the child has not ended the connection"
    assert status == (3 if leaves == "exits" else 0)


def test_a_forked_process_ends_neither_the_server_nor_waits_for_it(tmp_path: Path) -> None:
    def echo(connection: socket.socket) -> None:
        connection.sendall(connection.recv(10))

    path = tmp_path / "socket"
    with serving(echo, f"unix:{path}") as server:
        with client(server) as connection:
            connection.sendall(b"a")
            assert connection.recv(10) == b"a"
        for does in (server.shutdown, server.close):
            assert status_of(child_that(does)) == 9
        assert path.exists()
        with client(server) as connection:
            connection.sendall(b"b")
            assert connection.recv(10) == b"b"


def test_servers_of_forked_processes_share_a_listener(tmp_path: Path) -> None:
    def who(connection: socket.socket) -> None:
        connection.sendall(b"%d" % os.getpid())

    path = tmp_path / "socket"
    with Server(path, who) as server:

        def serve_one_client() -> None:
            threading.Timer(0.05, ask).start()
            server.serve_forever()
            server.close()

        def ask() -> None:
            with client(server) as connection:
                assert int(read_all(connection)) == os.getpid()
            server.shutdown()

        assert status_of(child_that(serve_one_client)) == 9
        assert path.exists(), "it is its maker's"
        thread = threading.Thread(target=serve_one_client)
        thread.start()
        thread.join(WATCHDOG)
        assert not thread.is_alive()


@pytest.mark.on_each_python
@pytest.mark.parametrize("leaves", ["returns", "exits", "raises", "waits", "reads"])
def test_a_child_of_a_handler_in_an_event_loop_ends_with_its_step(leaves: str) -> None:
    children: list[int] = []

    async def handler(reader: Any, writer: Any) -> None:
        assert await reader.readline() == b"fork\n"
        loop = asyncio.get_running_loop()
        writer.write(b"before,")
        child = os.fork()
        if child == 0:
            writer.write(b"child,")
            if leaves == "exits":
                raise SystemExit(3)
            if leaves == "raises":
                raise ZeroDivisionError
            if leaves == "waits":
                await loop.create_future()
            if leaves == "reads":
                await reader.read()
            return
        children.append(child)
        while not may_answer.is_set():
            await asyncio.sleep(0.005)
        writer.write(b"parent" + await reader.readline())

    may_answer = threading.Event()
    with (
        serving(handler, workers="coroutine") as server,
        client(server) as other,
        client(server) as connection,
    ):
        connection.sendall(b"fork\n")
        eventually(lambda: bool(children), "it has forked")
        status = status_of(children[0])
        may_answer.set()
        # The parent's epoll has lost nothing.
        connection.sendall(b" still\n")
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
        assert sorted(answer.replace(b"parent", b"parent,").split(b",")) == sorted(
            [b"before", b"child", b"parent", b" still\n"]
        )
        children.clear()
        other.sendall(b"fork\n")
        eventually(lambda: bool(children), "others are served")
        status_of(children[0])
    assert status == {"exits": 3, "raises": 1}.get(leaves, 0)


def test_a_child_of_a_message_handler_handles_no_other_message() -> None:
    children: list[int] = []

    def handler(message: bytes) -> bytes:
        if message == b"fork":
            child = os.fork()
            if child == 0:
                return b"child"
            children.append(child)
        return message

    with serving(handler, workers="coroutine", framing="lines") as server:
        with client(server) as connection:
            connection.sendall(b"one\nfork\ntwo\n")
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"one\nfork\ntwo\n"
        assert status_of(children[0]) == 0
