"""The socket that a handler gets behaves as every other socket does."""

from __future__ import annotations

import array
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import reduction, resource_sharer

import pytest

from manyhands._server.stream_socket import StreamSocket
from serving import WATCHDOG, client, read_all, serving


@contextmanager
def served() -> Iterator[
    tuple[socket.socket, Callable[[Callable[[socket.socket], object]], object]]
]:
    """Give a client, and what runs a function with the server's socket in the handler's thread."""
    work: list[Callable[[socket.socket], object]] = []
    asked, done = threading.Semaphore(0), threading.Semaphore(0)
    results: list[object] = []

    def handler(connection: socket.socket) -> None:
        while True:
            assert asked.acquire(timeout=WATCHDOG)
            if not work:
                return
            try:
                results.append(work.pop()(connection))
            except BaseException as error:
                results.append(error)
            done.release()

    def run(what: Callable[[socket.socket], object]) -> object:
        work.append(what)
        asked.release()
        assert done.acquire(timeout=WATCHDOG)
        result = results.pop()
        if isinstance(result, BaseException):
            raise result
        return result

    with serving(handler) as server, client(server) as connection:
        yield connection, run
        asked.release()


def test_it_is_a_socket_that_receives_and_sends() -> None:
    with served() as (connection, run):
        assert run(lambda sock: isinstance(sock, socket.socket)) is True
        connection.sendall(b"abcdef")
        assert run(lambda sock: sock.recv(2)) == b"ab"
        assert run(lambda sock: sock.recv(2, socket.MSG_PEEK)) == b"cd"
        place = bytearray(8)
        assert run(lambda sock: sock.recv_into(place)) == 4
        assert place[:4] == b"cdef"
        assert run(lambda sock: sock.send(b"one")) == 3
        assert run(lambda sock: sock.sendall(memoryview(b"two"))) is None
        assert run(lambda sock: sock.sendall(array.array("H", [0x4141]))) is None
        run(lambda sock: sock.shutdown(socket.SHUT_WR))
        assert read_all(connection) == b"onetwoAA"


def test_wrong_arguments_are_those_of_socket() -> None:
    with served() as (_connection, run):
        with pytest.raises(ValueError, match="negative buffersize"):
            run(lambda sock: sock.recv(-1))
        with pytest.raises(ValueError, match="buffer too small"):
            run(lambda sock: sock.recv_into(bytearray(2), 3))
        with pytest.raises(TypeError):
            run(lambda sock: sock.sendall("text"))  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            run(lambda sock: sock.recv_into(b"fixed"))


def test_all_that_was_asked_for() -> None:
    with served() as (connection, run):
        later = threading.Timer(0.05, connection.sendall, [b"def"])
        connection.sendall(b"abc")
        later.start()
        assert run(lambda sock: sock.recv(6, socket.MSG_WAITALL)) == b"abcdef"
        later.join()


def test_a_time_limit_is_kept() -> None:
    with served() as (connection, run):
        run(lambda sock: sock.settimeout(0.02))
        with pytest.raises(TimeoutError, match="timed out"):
            run(lambda sock: sock.recv(1))
        with pytest.raises(TimeoutError):
            run(lambda sock: sock.sendall(bytes(64 << 20)))
        run(lambda sock: sock.setblocking(False))
        with pytest.raises(BlockingIOError):
            run(lambda sock: sock.recv(1))
        run(lambda sock: sock.settimeout(None))
        connection.sendall(b"x")
        assert run(lambda sock: sock.recv(1)) == b"x"


def test_large_messages_arrive_whole() -> None:
    data = os.urandom(5 << 20)
    with served() as (connection, run):
        sender = threading.Thread(target=run, args=(lambda sock: sock.sendall(data),))
        sender.start()
        received = bytearray()
        while len(received) < len(data):
            received += connection.recv(1 << 20)
        sender.join(WATCHDOG)
        assert received == data


def test_files_made_of_it() -> None:
    with served() as (connection, run):
        connection.sendall(b"first\nsecond\n")
        assert run(lambda sock: sock.makefile("rb").readline()) == b"first\n"

        def write(sock: socket.socket) -> None:
            with sock.makefile("w") as file:
                file.write("written")

        run(write)
        assert connection.recv(16) == b"written"


def test_a_closed_socket_is_not_somebody_elses() -> None:
    with served() as (connection, run):
        kept: list[StreamSocket] = []

        def close(sock: socket.socket) -> int:
            assert isinstance(sock, StreamSocket)
            kept.append(sock)
            number = sock.fileno()
            sock.close()
            return number

        number = run(close)
        with open(os.devnull, "rb") as other:
            reused = other.fileno() == number
            with pytest.raises(OSError, match="Bad file descriptor"):
                kept[0].recv(1)
            with pytest.raises(OSError, match="Bad file descriptor"):
                kept[0].sendall(b"x")
        del reused
        assert connection.recv(1) == b""


def test_a_detached_socket_goes_on_under_its_number() -> None:
    with served() as (connection, run):

        def detach(sock: socket.socket) -> socket.socket:
            return socket.socket(fileno=sock.detach())

        other = run(detach)
        assert isinstance(other, socket.socket)
        with other:
            connection.sendall(b"x")
            assert other.recv(1) == b"x"


def test_a_duplicate_works_by_itself() -> None:
    with served() as (connection, run):
        copy = run(lambda sock: sock.dup())
        assert isinstance(copy, StreamSocket)
        with copy:
            connection.sendall(b"xy")
            assert copy.recv(1) == b"x"
            assert run(lambda sock: sock.recv(1)) == b"y"
            copy.sendall(b"z")
            assert connection.recv(1) == b"z"


def test_it_can_be_handed_to_a_process_of_multiprocessing() -> None:
    with served() as (connection, run):
        pickled = run(lambda mine: bytes(reduction.ForkingPickler.dumps(mine)))
        assert isinstance(pickled, bytes)
        handed = pickle.loads(pickled)
        resource_sharer.stop(timeout=WATCHDOG)
        assert type(handed) is socket.socket
        with handed:
            handed.sendall(b"from another")
        assert connection.recv(100) == b"from another"


def test_default_time_limits_hold() -> None:
    socket.setdefaulttimeout(0.02)
    try:
        with served() as (_connection, run):
            assert run(lambda sock: sock.gettimeout()) == 0.02
            with pytest.raises(TimeoutError):
                run(lambda sock: sock.recv(1))
    finally:
        socket.setdefaulttimeout(None)
