"""How a server ends: at once, from anywhere, and without losing what it serves."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest

from eventually import eventually
from manyhands.server import Server, StreamRequestHandler
from serving import WATCHDOG, ask, client, read_all, run_program, serving


def upper(connection: socket.socket) -> None:
    while data := connection.recv(4096):
        connection.sendall(data.upper())


class Slow:
    """Answers once it may."""

    def __init__(self) -> None:
        self.here = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        connection.recv(100)
        self.here.release()
        assert self.go.wait(WATCHDOG)
        connection.sendall(b"done")


def test_idle_connections_do_not_hold_it_up() -> None:
    with serving(upper, grace=WATCHDOG) as server:
        silent, served = client(server), client(server)
        served.sendall(b"a")
        assert served.recv(1) == b"A"
        eventually(lambda: server.statistics()["active"] == 2, "both are served")
    # The grace would have been longer than the watchdog's time.
    assert read_all(silent) == read_all(served) == b""
    silent.close()
    served.close()


def test_what_is_served_and_queued_is_finished() -> None:
    slow = Slow()
    with serving(slow, max_workers=1, grace=WATCHDOG) as server:
        first, second = client(server), client(server)
        for connection in (first, second):
            connection.sendall(b"x")
        assert slow.here.acquire(timeout=WATCHDOG)
        eventually(lambda: server.statistics()["queued"] == 1, "the second waits")
        ends = threading.Thread(target=server.shutdown)
        ends.start()
        eventually(lambda: refused(server), "nothing is accepted any more")
        slow.go.set()
        ends.join(WATCHDOG)
        assert read_all(first) == read_all(second) == b"done"
        counts = server.statistics()
        assert counts["served"] == counts["accepted"] >= 2
    first.close()
    second.close()


def refused(server: Server) -> bool:
    """Whether the server leaves new clients in the listener's queue."""
    before = server.statistics()["accepted"]
    with client(server):
        time.sleep(0.01)
        return bool(server.statistics()["accepted"] == before)


def test_after_the_grace_connections_are_ended(caplog: pytest.LogCaptureFixture) -> None:
    def forever(connection: socket.socket) -> None:
        connection.sendall(b"x")
        while connection.recv(1):
            pass

    with serving(forever, grace=0.05) as server, client(server) as connection:
        assert connection.recv(1) == b"x"
        connection.sendall(b"y")  # so it is not idle: it has said something that is not answered
        server.shutdown()
        assert read_all(connection) == b""
    assert "still running" not in caplog.text


def test_handlers_that_do_not_end_are_named(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow()
    with caplog.at_level(logging.WARNING, "manyhands.server"), serving(slow, grace=0) as server:
        connection = client(server)
        connection.sendall(b"x")
        assert slow.here.acquire(timeout=WATCHDOG)
        server.shutdown()
        assert "1 handlers still running" in caplog.text
        assert "self.go.wait(WATCHDOG)" in caplog.text, "the stack of the handler"
    slow.go.set()
    connection.close()
    eventually(lambda: not workers(), "its thread ends with it")


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mh-server")]


def test_a_handler_may_end_its_server() -> None:
    servers: list[Server] = []

    def stop(connection: socket.socket) -> None:
        servers[0].shutdown()
        connection.sendall(b"bye")

    with serving(stop) as server:
        servers.append(server)
        assert ask(server, b"") == b"bye"
        eventually(lambda: ", idle, " in repr(server), "it is served no more")


def test_those_who_were_refused_as_it_ended_are_told_too() -> None:
    slow = Slow()

    def busy(connection: socket.socket, _address: Any) -> None:
        eventually(lambda: server.statistics()["refused"] == 5, "all others have come")
        connection.sendall(b"busy")
        server.shutdown()

    with serving(slow, max_workers=1, max_queue=0, overflow=busy) as server:
        with client(server) as first:
            first.sendall(b"x")
            assert slow.here.acquire(timeout=WATCHDOG)
            others = [client(server) for _ in range(5)]
            assert [read_all(other) for other in others] == [b"busy"] * 5
            for other in others:
                other.close()
            slow.go.set()
            assert read_all(first) == b"done"


def test_a_handler_in_a_process_ends_all_of_its_server() -> None:
    class Ends(StreamRequestHandler):
        server: Server  # type: ignore[assignment]

        def handle(self) -> None:
            self.server.shutdown(grace=WATCHDOG)
            self.wfile.write(b"it ends")

    with Server(("127.0.0.1", 0), Ends, workers="process", max_workers=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with client(server) as connection:
            assert read_all(connection) == b"it ends"
        thread.join(WATCHDOG)
        ends = not thread.is_alive()
        server.shutdown(grace=0)
    assert ends
    assert server.statistics()["replaced"] == 0


def test_ending_what_is_not_served_ends_the_next() -> None:
    with Server(("127.0.0.1", 0), upper) as server:
        server.shutdown()
        server.serve_forever()
        server.shutdown()
        server.shutdown()
        server.serve_forever()


def test_it_ends_from_many_threads_at_once() -> None:
    with serving(upper) as server:
        ask(server, b"a")
        threads = [threading.Thread(target=server.shutdown) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG)
        assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("how", ["shutdown", "raise"])
def test_a_signal_ends_it(how: str) -> None:
    def on_signal(*_: Any) -> None:
        if how == "raise":
            raise ZeroDivisionError
        server.shutdown()

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        with Server(("127.0.0.1", 0), upper) as server:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            if how == "raise":
                with pytest.raises(ZeroDivisionError):
                    server.serve_forever()
            else:
                server.serve_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_a_second_one_ends(first: signal.Signals) -> None:
    program = f"""
import os, signal, socket, sys, threading, time
from manyhands.server import serve
handled = threading.Event()
def handler(connection):
    connection.sendall(b"x")
    connection.recv(1)
    os.kill(os.getpid(), {int(first)})
    handled.set()
    while connection.recv(1):
        pass
    print("ended")
with socket.create_server(("127.0.0.1", 0)) as listening:
    address = listening.getsockname()
    def client():
        with socket.create_connection(address) as mine:
            assert mine.recv(1) == b"x"
            mine.sendall(b"yy")  # one of which is not answered: the connection is not idle
            assert handled.wait(20)
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)
            assert mine.recv(1) == b""
    thread = threading.Thread(target=client)
    thread.start()
    serve(listening, handler, grace=1000)
    thread.join()
print("over")
"""
    result = run_program(program)
    assert result.stdout == "ended\nover\n", result.stderr
    assert result.returncode == 0


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_a_second_interrupt_leaves_nothing_that_serves(workers: str) -> None:
    program = f"""
import os, signal, socket, threading, time
from manyhands.server import Server
def slow(connection):
    connection.sendall(b"%d" % os.getpid())
    time.sleep(1000)
with Server(("127.0.0.1", 0), slow, workers={workers!r}, max_workers=1, grace=1000) as server:
    clients, seen = [], []
    def interrupted(*_):
        seen.append(True)
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, interrupted)
    def interrupt():
        client = socket.create_connection(server.server_address)
        clients.append((int(client.recv(100)), client))
        os.kill(os.getpid(), signal.SIGINT)  # ends the serving
        while not seen:
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)  # ends its end
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        assert len(seen) == 2
    pid, client = clients[0]
    try:
        print("the end", client.recv(100))
    except ConnectionResetError:
        print("the end", b"")
    if pid != os.getpid():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            print("killed")
"""
    result = run_program(program)
    assert result.stdout.split("\n")[0] == "the end b''", result.stderr
    assert ("killed" in result.stdout) == (workers == "process")


def test_ctrl_c_ends_the_program() -> None:
    program = """
import _thread, threading
from manyhands.server import Server
with Server(("127.0.0.1", 0), lambda connection: None) as server:
    threading.Timer(0.1, _thread.interrupt_main).start()
    server.serve_forever()
"""
    result = run_program(program)
    assert "KeyboardInterrupt" in result.stderr
    assert "Exception ignored" not in result.stderr
