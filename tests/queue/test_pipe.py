"""Pipes: two ends, messages both ways."""

from __future__ import annotations

import array
import asyncio
import gc
import multiprocessing
import os
import pickle
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any

import numpy as np
import pytest

import manyhands as mh
from children import METHODS, WAIT_S, another_sleeps, child, sleeps, thread
from eventually import eventually

# Its published types know only the standard library's connections.
wait: Any = connection.wait


def echo(end: mh.Connection) -> None:
    """Until None comes; a forked child has both ends, and so does not see that one is closed."""
    while (item := end.recv()) is not None:
        end.send(item)


def answer(end: mh.Connection, count: int) -> None:
    for _ in range(count):
        end.send(end.recv())


def sends(end: mh.Connection, *items: Any) -> None:
    with end:
        for item in items:
            end.send(item)


# ---------------------------------------------------------------------- one process


@pytest.mark.parametrize(
    "value",
    [None, 7, 2**80, "text", b"bytes", (1, ("a",)), [1], {"a": 1}, bytes(1 << 20)],
    ids=lambda value: type(value).__name__,
)
def test_objects_go_both_ways(value: Any) -> None:
    here, there = mh.Pipe()
    for one, other in ((here, there), (there, here)):
        one.send(value)
        assert other.poll()
        assert other.recv() == value
        assert not other.poll()


def test_arrays_arrive_writable() -> None:
    here, there = mh.Pipe()
    here.send(np.arange(50_000))
    got = there.recv()
    got[0] = 7
    assert got.sum() == sum(range(50_000)) + 7


def test_one_way() -> None:
    receiver, sender = mh.Pipe(duplex=False)
    assert (receiver.readable, receiver.writable) == (True, False)
    assert (sender.readable, sender.writable) == (False, True)
    sender.send(1)
    assert receiver.recv() == 1
    sends: list[Callable[[], object]] = [
        lambda: receiver.send(1),
        lambda: receiver.send_bytes(b"x"),
    ]
    for call in sends:
        with pytest.raises(OSError, match="connection is read-only"):
            call()
    receives: list[Callable[[], object]] = [sender.recv, sender.recv_bytes, sender.poll]
    for call in receives:
        with pytest.raises(OSError, match="connection is write-only"):
            call()


def test_closed_ends() -> None:
    here, there = mh.Pipe()
    assert not here.closed
    with here:
        here.send("before")
    here.close()
    assert here.closed
    for call in (
        here.recv,
        lambda: here.send(1),
        here.poll,
        here.fileno,
        lambda: pickle.dumps(here),
    ):
        with pytest.raises(OSError, match="handle is closed"):
            call()
    assert there.recv() == "before"
    assert there.poll()
    with pytest.raises(EOFError):
        there.recv()
    with pytest.raises(BrokenPipeError):
        there.send(1)


def test_an_end_that_nobody_refers_to_is_closed() -> None:
    here, there = mh.Pipe()
    del there
    gc.collect()
    with pytest.raises(EOFError):
        here.recv()


def test_bytes() -> None:
    here, there = mh.Pipe()
    here.send_bytes(b"hello")
    assert there.recv_bytes() == b"hello"
    here.send_bytes(bytearray(b"hello"), 1)
    assert there.recv_bytes() == b"ello"
    here.send_bytes(b"hello", 1, 3)
    assert there.recv_bytes() == b"ell"
    here.send_bytes(b"")
    assert there.recv_bytes() == b""
    here.send_bytes(array.array("i", [1, 2]))
    assert there.recv_bytes() == array.array("i", [1, 2]).tobytes()
    here.send_bytes(np.arange(6).reshape(2, 3))
    assert there.recv_bytes() == np.arange(6).tobytes()


@pytest.mark.parametrize(
    "value",
    [
        array.array("b", [-1, 2]),
        array.array("b"),
        np.arange(3, dtype=np.int8),
        np.array([True, False]),
        np.arange(3, dtype=">i4"),
        np.zeros((2, 3), np.uint8),
        np.zeros((0, 3)),
        memoryview(b"abc").cast("c"),
    ],
    ids=lambda value: getattr(value, "typecode", None) or str(getattr(value, "dtype", "c")),
)
def test_bytes_of_any_format(value: Any) -> None:
    here, there = mh.Pipe()
    here.send_bytes(value)
    assert there.recv_bytes() == memoryview(value).tobytes()


@pytest.mark.parametrize(
    "value",
    [memoryview(b"abcdef")[::2], np.arange(6)[::2], np.asfortranarray(np.zeros((2, 3)))],
    ids=["bytes", "numbers", "columns"],
)
def test_bytes_that_are_not_contiguous(value: Any) -> None:
    here, there = mh.Pipe()
    with pytest.raises((BufferError, TypeError), match="contiguous"):
        here.send_bytes(value)
    assert not there.poll()


def fills(end: mh.Connection) -> int:
    """Send as much as goes without waiting; return how many MiB."""

    async def send_all() -> int:
        for count in range(100):
            try:
                await end.async_send(bytes(1 << 20), timeout=0.01)
            except TimeoutError:
                return count
        return 100

    return asyncio.run(send_all())


def test_sending_waits_when_much_is_on_the_way() -> None:
    here, there = mh.Pipe()
    count = fills(here)
    assert 14 <= count <= 17
    with thread(here.send, bytes(1 << 20)):
        eventually(another_sleeps, "the sender waits")
        for _ in range(count + 1):
            assert len(there.recv()) == 1 << 20
    assert not there.poll()


def test_a_message_that_is_longer_than_all_that_can_be_on_the_way() -> None:
    here, there = mh.Pipe()
    here.send_bytes(bytes(40 << 20))
    assert fills(here) == 0
    assert len(there.recv_bytes()) == 40 << 20


def test_objects_and_bytes_are_the_same_messages() -> None:
    here, there = mh.Pipe()
    for value in (7, "text", {"a": [1]}):
        here.send(value)
        assert pickle.loads(there.recv_bytes()) == value
        here.send_bytes(pickle.dumps(value))
        assert there.recv() == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((b"abc", -1), "offset is negative"),
        ((b"abc", 4), "buffer length < offset"),
        ((b"abc", 0, -1), "size is negative"),
        ((b"abc", 1, 3), "buffer length < offset \\+ size"),
    ],
)
def test_parts_outside_the_buffer(arguments: tuple[Any, ...], message: str) -> None:
    here, there = mh.Pipe()
    with pytest.raises(ValueError, match=message):
        here.send_bytes(*arguments)
    assert not there.poll()


def test_longest_lengths() -> None:
    here, there = mh.Pipe()
    here.send_bytes(b"12345")
    assert there.recv_bytes(5) == b"12345"
    with pytest.raises(ValueError, match="negative maxlength"):
        there.recv_bytes(-1)
    here.send_bytes(b"123456")
    with pytest.raises(OSError, match="bad message length"):
        there.recv_bytes(5)
    assert there.closed


def test_receiving_into_a_buffer() -> None:
    here, there = mh.Pipe()
    buffer = bytearray(8)
    here.send_bytes(b"abc")
    assert there.recv_bytes_into(buffer, 2) == 3
    assert buffer == b"\0\0abc\0\0\0"
    numbers = array.array("i", [0] * 4)
    here.send_bytes(array.array("i", [5, 6]))
    assert there.recv_bytes_into(numbers, numbers.itemsize) == 2 * numbers.itemsize
    assert list(numbers) == [0, 5, 6, 0]
    here.send_bytes(b"123456789")
    with pytest.raises(multiprocessing.BufferTooShort) as short:
        there.recv_bytes_into(buffer)
    assert short.value.args == (b"123456789",)
    for offset, message in ((-1, "negative offset"), (9, "offset too large")):
        with pytest.raises(ValueError, match=message):
            there.recv_bytes_into(buffer, offset)


def test_an_unpicklable_object_leaves_the_pipe_intact() -> None:
    here, there = mh.Pipe()
    with pytest.raises((TypeError, pickle.PicklingError)):
        here.send(threading.Lock())
    assert not there.poll()
    here.send(1)
    assert there.recv() == 1


def test_poll_waits() -> None:
    here, there = mh.Pipe()
    assert there.poll() is False
    assert there.poll(0.01) is False
    sender = threading.Timer(0.02, here.send, [1])
    sender.start()
    assert there.poll(WAIT_S) is True
    assert there.poll(None) is True
    assert there.recv() == 1
    sender.join()


# ---------------------------------------------------------------------- descriptors


def is_readable(end: mh.Connection) -> bool:
    return bool(wait([end], 0) == [end])


def test_the_descriptor_is_readable_while_something_is_there() -> None:
    here, there = mh.Pipe()
    assert not is_readable(there)
    for count in (1, 2, 30):
        for n in range(count):
            here.send(n)
        for n in range(count):
            assert is_readable(there)
            assert there.recv() == n
        assert not is_readable(there)
    here.close()
    assert is_readable(there), "the end can be received"


def test_what_came_before_the_descriptor() -> None:
    here, there = mh.Pipe()
    here.send(1)
    assert is_readable(there)


@pytest.mark.parametrize("method", METHODS)
def test_selectors(method: str) -> None:
    pipes = [mh.Pipe() for _ in range(3)]
    got: list[Any] = []
    with selectors.DefaultSelector() as selector:
        with child(method, sends, pipes[0][1], 1, 2), child(method, sends, pipes[1][1], 3):
            pipes[2][1].send(4)
            for here, there in pipes:
                there.close()
                selector.register(here, selectors.EVENT_READ)
            while len(got) < 4:
                for key, _ in selector.select(WAIT_S):
                    try:
                        got.append(key.fileobj.recv())  # type: ignore[union-attr]
                    except EOFError:
                        selector.unregister(key.fileobj)
    assert sorted(got) == [1, 2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_process_makes_the_descriptor_readable(method: str) -> None:
    here, there = mh.Pipe()
    context = multiprocessing.get_context(method)
    process = context.Process(target=echo, args=(there,))  # type: ignore[attr-defined]
    process.start()
    there.close()
    here.send(1)
    assert wait([here], WAIT_S) == [here]
    assert here.recv() == 1
    assert not is_readable(here)
    os.kill(process.pid, signal.SIGKILL)
    assert wait([here], WAIT_S) == [here]
    with pytest.raises(EOFError):
        here.recv()
    assert is_readable(here)
    process.join(WAIT_S)
    process.close()


def do_nothing() -> None:
    """Yield a forked child, which has both ends of every pipe and releases them when it ends."""


def test_the_end_of_another_process_is_not_the_end() -> None:
    here, there = mh.Pipe()
    assert not is_readable(here)
    with child("fork", do_nothing):
        assert not is_readable(here)
    assert not is_readable(here)
    there.send(1)
    assert is_readable(here)


def test_waiting_with_the_stdlibs_own_connections() -> None:
    here, there = mh.Pipe()
    ours_first, theirs = multiprocessing.Pipe()
    with here, there, ours_first, theirs:
        theirs.send(1)
        assert wait([here, ours_first], WAIT_S) == [ours_first]
        there.send(2)
        assert set(wait([here, ours_first], WAIT_S)) == {here, ours_first}


# ---------------------------------------------------------------------- processes


@pytest.mark.parametrize("method", METHODS)
def test_back_and_forth(method: str) -> None:
    here, there = mh.Pipe()
    with child(method, echo, there):
        there.close()
        for item in (1, "two", [3], bytes(1 << 20)):
            here.send(item)
            assert here.recv() == item
        here.send(None)


def both_ends(here: mh.Connection, there: mh.Connection) -> None:
    here.close()
    with pytest.raises(EOFError):
        there.recv()


def test_a_forked_child_has_both_ends() -> None:
    here, there = mh.Pipe()
    with child("fork", both_ends, here, there):
        here.close()


@pytest.mark.parametrize("method", METHODS)
def test_the_end_of_the_child_is_the_end(method: str) -> None:
    here, there = mh.Pipe()
    with child(method, sends, there, "last words"):
        there.close()
        assert here.recv() == "last words"
        with pytest.raises(EOFError):
            here.recv()
        with pytest.raises(BrokenPipeError):
            here.send(1)


@contextmanager
def killed_child(method: str) -> Iterator[mh.Connection]:
    """Yield the end of a pipe whose other end was held only by a process that has been killed."""
    here, there = mh.Pipe()
    process = multiprocessing.get_context(method).Process(target=echo, args=(there,))  # type: ignore[attr-defined]
    process.start()
    there.close()
    here.send(1)
    assert here.recv() == 1
    os.kill(process.pid, signal.SIGKILL)
    yield here
    process.join(WAIT_S)
    process.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_child_is_the_end(method: str) -> None:
    with killed_child(method) as here, pytest.raises(EOFError):
        here.recv()


@pytest.mark.parametrize("method", METHODS)
def test_sending_to_a_killed_child(method: str) -> None:
    with killed_child(method) as here:
        pass  # until nothing is left of it
    sent = []

    def is_broken() -> bool:
        try:
            here.send(1)
        except BrokenPipeError:
            return True
        sent.append(1)
        return False

    eventually(is_broken, "the sender is told")
    assert len(sent) < 100
    assert is_broken()


KILLED_AT_FORK = """
import os, signal, time

kills = False
os.register_at_fork(after_in_child=lambda: kills and os.kill(os.getpid(), signal.SIGKILL))
import manyhands as mh

here, there = mh.Pipe()
kills = True
child = os.fork()
os.waitpid(child, 0)
start = time.monotonic()
there.close()
try:
    here.recv()
except EOFError:
    print(time.monotonic() - start)
"""


def test_a_child_that_is_killed_right_after_the_fork() -> None:
    """Before it can take hold of the ends."""
    program = [sys.executable, "-c", KILLED_AT_FORK]
    done = subprocess.run(program, capture_output=True, text=True, timeout=2 * WAIT_S, check=True)
    assert float(done.stdout) < 20


def test_tasks_get_pipes() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        for _ in range(3):
            here, there = mh.Pipe()
            future = pool.submit(answer, there, 2)
            there.close()
            for item in (1, 2):
                here.send(item)
                assert here.recv() == item
            future.result(timeout=WAIT_S)
            with pytest.raises(EOFError):
                here.recv()


def test_an_end_sent_through_a_pipe() -> None:
    here, there = mh.Pipe()
    inner_here, inner_there = mh.Pipe()
    with child("spawn", echo_through, there):
        there.close()
        here.send(inner_there)
        inner_there.close()
        inner_here.send("x")
        assert inner_here.recv() == "x"
        inner_here.send(None)


def echo_through(end: mh.Connection) -> None:
    echo(end.recv())


def test_ctrl_c_ends_a_wait() -> None:
    here, there = mh.Pipe()
    main = threading.get_native_id()

    def interrupt() -> None:
        eventually(lambda: sleeps(main), "the main thread waits")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        there.recv()
    thread.join(WAIT_S)
    here.send(1)
    assert there.recv() == 1


# ---------------------------------------------------------------------- coroutines


@pytest.mark.on_each_python
def test_coroutines() -> None:
    here, there = mh.Pipe()

    async def main() -> list[Any]:
        got = []
        for item in ("one", bytes(1 << 20), {"three": 3}):
            await here.async_send(item)
            got.append(await asyncio.wait_for(here.async_recv(), WAIT_S))
        with pytest.raises(TimeoutError):
            await here.async_recv(timeout=0.01)
        await here.async_send(None)
        return got

    with child("fork", echo, there):
        there.close()
        assert asyncio.run(main()) == ["one", bytes(1 << 20), {"three": 3}]


@pytest.mark.on_each_python
def test_async_for_ends_with_the_other_end() -> None:
    here, there = mh.Pipe()

    async def main() -> list[Any]:
        return [item async for item in here]

    with child("fork", sends, there, 1, 2, 3):
        there.close()
        assert asyncio.run(asyncio.wait_for(main(), WAIT_S)) == [1, 2, 3]


def test_reprs() -> None:
    receiver, sender = mh.Pipe(duplex=False)
    assert repr(receiver).startswith("<manyhands.Connection receives at")
    assert repr(sender).startswith("<manyhands.Connection sends at")
    sender.close()
    assert repr(sender).startswith("<manyhands.Connection closed at")


@pytest.mark.storm  # it takes 2 GiB
def test_a_message_of_more_than_one_gib() -> None:
    size = (1 << 30) + 1_000_000
    here, there = mh.Pipe(duplex=False)
    with here, there, mh.ThreadPoolExecutor(1) as pool:
        sent = pool.submit(there.send_bytes, bytes(size))
        assert len(here.recv_bytes()) == size
        sent.result()
