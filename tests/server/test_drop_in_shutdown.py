"""`shutdown` of the drop-in for `socketserver`: at once, and from anywhere."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import manyhands.server as socketserver
from children import thread, wait_until_asleep
from eventually import eventually
from served import LOCALHOST, NEVER_S, Echo, answer, served, wait_until_it_polls
from serving import client as connected

KINDS = ("TCPServer", "ThreadingTCPServer", "ForkingTCPServer")


class ShutDown(socketserver.StreamRequestHandler):
    """Shuts the server down, and says so."""

    def handle(self) -> None:
        if self.rfile.readline() == b"end\n":
            self.server.shutdown()
        self.wfile.write(b"done\n")


@contextmanager
def loop_of(server: socketserver.BaseServer) -> Iterator[threading.Thread]:
    """Have a thread serve, and wait until it has begun; the block must end it."""
    with thread(server.serve_forever, NEVER_S) as serving:
        wait_until_it_polls(serving)
        yield serving


@pytest.fixture
def server() -> Iterator[socketserver.TCPServer]:
    with socketserver.TCPServer(LOCALHOST, Echo) as made:
        yield made


def test_it_does_not_wait_for_a_poll(server: socketserver.TCPServer) -> None:
    with loop_of(server) as loop:
        server.shutdown()
        loop.join(30)
        assert not loop.is_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_may_call_it(kind: str) -> None:
    with getattr(socketserver, kind)(LOCALHOST, ShutDown) as server:
        with loop_of(server):
            assert answer(server, b"go on\n") == b"done\n"
            assert answer(server, b"end\n") == b"done\n"


def test_a_signal_handler_may_call_it_in_the_thread_that_serves(
    server: socketserver.TCPServer,
) -> None:
    main = threading.main_thread()

    def interrupt() -> None:
        wait_until_it_polls(main)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: server.shutdown())
    try:
        with thread(interrupt):
            server.serve_forever(NEVER_S)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_may_call_it_in_a_thread_that_already_waits_for_it() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            entered.set()
            leave.wait(30)

    called: list[int] = []

    def again(*_: object) -> None:
        if not called:
            called.append(1)
            timer = threading.Timer(0.01, leave.set)
            timer.start()
            busy.shutdown()
            called.append(2)

    before = signal.signal(signal.SIGUSR1, again)
    try:
        with socketserver.TCPServer(LOCALHOST, Handler) as busy, loop_of(busy):
            with connected(busy):
                assert entered.wait(30)
                with thread(interrupt_main_when_it_waits):
                    busy.shutdown()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == [1, 2]


def interrupt_main_when_it_waits() -> None:
    wait_until_asleep(threading.main_thread().native_id or 0)
    os.kill(os.getpid(), signal.SIGUSR1)


def test_before_the_loop_it_is_remembered_for_one(server: socketserver.TCPServer) -> None:
    server.shutdown()
    server.serve_forever(NEVER_S)
    with loop_of(server):
        assert answer(server) == b"hello\n"
        server.shutdown()


def test_a_loop_that_is_just_being_started_ends() -> None:
    for _ in range(200):
        with socketserver.TCPServer(LOCALHOST, Echo) as server:
            with thread(server.serve_forever, NEVER_S):
                server.shutdown()


def test_twice_and_by_many_threads(server: socketserver.TCPServer) -> None:
    with loop_of(server):
        others = [threading.Thread(target=server.shutdown) for _ in range(5)]
        for each in others:
            each.start()
        server.shutdown()
        server.shutdown()
        for each in others:
            each.join(30)
            assert not each.is_alive()


def test_a_loop_that_fails_has_ended(server: socketserver.TCPServer) -> None:
    failed: list[BaseException] = []

    def fail(request: Any, client_address: Any) -> None:
        raise SystemExit("enough")

    server.process_request = fail  # type: ignore[method-assign]

    def serve() -> None:
        try:
            server.serve_forever(NEVER_S)
        except SystemExit as error:
            failed.append(error)

    with thread(serve) as loop:
        connected(server).close()
        loop.join(30)
    assert len(failed) == 1


def test_it_ends_all_loops_of_a_server() -> None:
    with socketserver.ThreadingTCPServer(LOCALHOST, Echo) as server:
        with loop_of(server) as one, loop_of(server) as other:
            server.shutdown()
            for each in (one, other):
                each.join(30)
                assert not each.is_alive()


def test_handlers_of_two_loops_may_call_it_at_a_time() -> None:
    both = threading.Barrier(2)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            both.wait(30)
            self.server.shutdown()

    with socketserver.TCPServer(LOCALHOST, Handler) as server:
        with loop_of(server), loop_of(server), connected(server), connected(server):
            pass


def test_a_closed_server_serves_no_more(server: socketserver.TCPServer) -> None:
    # The standard library's goes on, with all the CPU there is.
    with loop_of(server) as loop:
        server.server_close()
        loop.join(30)
        assert not loop.is_alive()


def test_the_private_flag_of_the_standard_library_works(server: socketserver.TCPServer) -> None:
    with loop_of(server):
        server._BaseServer__shutdown_request = True  # type: ignore[attr-defined]


def test_a_child_of_the_program_does_not_end_the_parents_loop(
    server: socketserver.TCPServer,
) -> None:
    with loop_of(server):
        child = os.fork()
        if child == 0:
            server.shutdown()
            server.server_close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert answer(server) == b"hello\n"
        server.shutdown()


def test_a_child_of_the_program_serves_by_itself(server: socketserver.TCPServer) -> None:
    with loop_of(server) as loop:
        server.shutdown()
        loop.join()
    child = os.fork()
    if child == 0:
        server.handle_request()
        with served(server):
            pass
        os._exit(0)
    assert answer(server) == b"hello\n"
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_stays_open_after_many_loops(server: socketserver.TCPServer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(300):
        server.shutdown()
        server.serve_forever()
    eventually(lambda: len(os.listdir("/proc/self/fd")) == before, "nothing more is open")
