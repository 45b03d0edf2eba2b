"""Servers whose handlers run in an executor of the user's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually
from manyhands.server import Server
from serving import WATCHDOG, ask, client, running, serving


def tell_thread(connection: Any) -> None:
    connection.sendall(connection.recv(10) + threading.current_thread().name.encode())


async def tell_thread_later(reader: Any, writer: Any) -> None:
    writer.write(await reader.read(10) + threading.current_thread().name.encode())


def wait_for(connection: Any) -> None:
    connection.sendall(b"here")
    connection.recv(1)


THREADS = [mh.ThreadPoolExecutor, concurrent.futures.ThreadPoolExecutor]


@pytest.mark.on_each_python
@pytest.mark.parametrize("kind", THREADS)
def test_threads_of_a_pool_serve_beside_its_other_tasks(kind: Any) -> None:
    with kind(2, thread_name_prefix="ours") as pool:
        with serving(tell_thread, workers=pool) as server:
            assert server.max_workers == 2
            assert ask(server, b"x").startswith(b"xours")
            eventually(lambda: server.statistics()["workers"] == 0, "none is kept for later")
            # Both are free for others.
            both = threading.Barrier(2)
            assert len([pool.submit(both.wait, WATCHDOG) for _ in range(2)]) == 2
            assert ask(server, b"x").startswith(b"xours")
        assert pool.submit(int, "7").result(WATCHDOG) == 7, "it goes on without the server"


def test_a_pool_that_is_busy_has_clients_wait() -> None:
    go = threading.Event()
    with mh.ThreadPoolExecutor(1) as pool, serving(tell_thread, workers=pool) as server:
        pool.submit(go.wait, WATCHDOG)
        with client(server) as connection:
            connection.sendall(b"x")
            eventually(lambda: server.statistics()["queued"] == 1, "it waits")
            go.set()
            assert connection.recv(10).startswith(b"x")


def test_no_more_are_served_than_a_pool_has_threads() -> None:
    with mh.ThreadPoolExecutor(2) as pool, serving(wait_for, workers=pool) as server:
        clients = [client(server) for _ in range(3)]
        for connection in clients[:2]:
            assert connection.recv(4) == b"here"
        eventually(lambda: server.statistics()["queued"] == 1, "the third waits")
        clients[0].close()
        assert clients[2].recv(4) == b"here"
        for connection in clients[1:]:
            connection.close()


def test_datagrams_too() -> None:
    import socket

    with (
        mh.ThreadPoolExecutor(2) as pool,
        serving(lambda data, _: data.upper(), "udp:127.0.0.1:0", workers=pool) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking,
    ):
        asking.settimeout(WATCHDOG)
        for _ in range(10):
            asking.sendto(b"hello", server.server_address)
            assert asking.recv(10) == b"HELLO"


def test_loops_of_a_pool_serve_beside_its_other_tasks() -> None:
    async def seven() -> int:
        await asyncio.sleep(0)
        return 7

    with mh.CoroutinePoolExecutor(2, 50, thread_name_prefix="ours") as pool:
        with serving(tell_thread_later, workers=pool) as server:
            assert (server.max_workers, server.max_active) == (2, 100)
            names = {ask(server, b"x") for _ in range(10)}
            assert names <= {b"xours_0", b"xours_1"}
            assert pool.submit(seven).result(WATCHDOG) == 7
        assert pool.submit(seven).result(WATCHDOG) == 7, "it goes on without the server"


def test_greenlets_of_a_pool() -> None:
    pytest.importorskip("greenlet", reason="there is no greenlet for this Python")
    with mh.GreenletPoolExecutor(thread_name_prefix="ours") as pool:
        with serving(tell_thread, workers=pool) as server:
            assert ask(server, b"x") == b"xours_0"
        assert pool.submit(int, "7").result(WATCHDOG) == 7


@pytest.mark.parametrize(
    ("handler", "kind"),
    [(tell_thread, mh.ThreadPoolExecutor), (tell_thread_later, mh.CoroutinePoolExecutor)],
)
def test_handlers_have_their_grace_there(handler: Any, kind: Any) -> None:
    with kind(2) as pool:
        with running(Server("127.0.0.1:0", handler, workers=pool, grace=WATCHDOG)) as server:
            with client(server) as connection:
                eventually(lambda: server.statistics()["active"] == 1, "it is served")
                ending = threading.Thread(target=server.shutdown)
                connection.sendall(b"x")
                ending.start()
                assert connection.recv(100).startswith(b"x")
                ending.join(WATCHDOG)


@pytest.mark.parametrize(
    ("handler", "kind"),
    [(tell_thread, mh.ThreadPoolExecutor), (tell_thread_later, mh.CoroutinePoolExecutor)],
)
def test_a_pool_that_was_shut_down_is_an_error_of_serving(handler: Any, kind: Any) -> None:
    pool = kind(2)
    pool.shutdown()
    with Server("127.0.0.1:0", handler, workers=pool) as server:
        with client(server):
            with pytest.raises(RuntimeError, match="shutdown"):
                server.serve_forever()


def test_tasks_that_are_cancelled_end_the_serving() -> None:
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve_forever()
        except BaseException as error:
            errors.append(error)

    pool = mh.CoroutinePoolExecutor()
    with Server("127.0.0.1:0", tell_thread_later, workers=pool) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(server, b"x").startswith(b"x")
        # As at the end of a block that Ctrl-C has left.
        pool.__exit__(KeyboardInterrupt, None, None)
        thread.join(WATCHDOG)
        assert not thread.is_alive()
    assert isinstance(errors[0], concurrent.futures.CancelledError)


class Elsewhere(concurrent.futures.Executor):
    pass


def test_executors_that_cannot_have_connections_are_refused() -> None:
    for kind in (mh.ProcessPoolExecutor, concurrent.futures.ProcessPoolExecutor, Elsewhere):
        with kind() as pool, pytest.raises(TypeError, match="workers='process'"):
            Server("127.0.0.1:0", tell_thread, workers=pool)
    with mh.ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="max_workers is what"):
            Server("127.0.0.1:0", tell_thread, workers=pool, max_workers=2)
        with pytest.raises(TypeError, match="workers='coroutine'"):
            Server("127.0.0.1:0", tell_thread_later, workers=pool)


@pytest.mark.on_each_python
def test_interpreters_are_refused() -> None:
    if not hasattr(concurrent.futures, "InterpreterPoolExecutor"):
        pytest.skip("this Python has none")
    with concurrent.futures.InterpreterPoolExecutor(1) as pool:
        with pytest.raises(TypeError, match="InterpreterPoolExecutor"):
            Server("127.0.0.1:0", tell_thread, workers=pool)
