"""FIFOs: messages between unrelated programs."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manyhands as mh
from manyhands._queue.netstring import Messages, cut

WAIT_S = 30.0
SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fifo"


# ---------------------------------------------------------------------- messages on the pipe


def messages_in(chunks: list[bytes]) -> list[bytes]:
    messages = Messages()
    for chunk in chunks:
        messages.feed(chunk)
    found = []
    while messages.has_one():
        found.append(messages.take())
    return found


@given(st.lists(st.binary(max_size=30) | st.just(b"x" * 5000)), st.integers(1, 9000))
def test_messages_survive_being_cut_anywhere(sent: list[bytes], step: int) -> None:
    stream = b"".join(b"".join(cut(message)) for message in sent)
    chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert messages_in(chunks) == sent


def test_no_part_is_longer_than_what_is_written_at_once() -> None:
    for size in (0, 1, 4087, 4088, 4089, 100_000):
        parts = cut(bytes(size))
        assert max(map(len, parts)) <= 4096
        assert (len(parts) == 1) == (size <= 4088)


def test_a_message_whose_writer_died_is_dropped() -> None:
    unfinished = cut(b"x" * 10_000)[:2]
    assert messages_in([*unfinished, *cut(b"next")]) == [b"next"]


def test_a_reader_that_comes_in_the_middle_waits_for_the_next_message() -> None:
    assert messages_in([*cut(b"x" * 10_000)[1:], *cut(b"next")]) == [b"next"]


@pytest.mark.parametrize("rubbish", [b"hello\n", b":x,", b"3:abcd", b"1" * 40, b"-1:,", b"3abc,"])
def test_what_is_no_message_is_said(rubbish: bytes) -> None:
    messages = Messages()
    with pytest.raises(OSError, match="not a message"):
        messages.feed(cut(b"first")[0] + rubbish)
    assert messages.take() == b"first"
    messages.feed(cut(b"after")[0])
    assert messages.take() == b"after"


# ---------------------------------------------------------------------- one program


def test_it_is_made_for_this_user_only(path: Path) -> None:
    with mh.open_fifo(path, "r+") as fifo:
        assert path.is_fifo()
        assert path.stat().st_mode & 0o777 == 0o600
        assert fifo.readable and fifo.writable and not fifo.closed
        assert repr(fifo) == f"<manyhands.Fifo {str(path)!r} mode='r+'>"
    assert fifo.closed
    assert path.is_fifo()


@pytest.mark.parametrize("message", [b"", b"hello", b"a\nb,c:d+", bytes(4088), bytes(1_000_000)])
def test_a_message_arrives_whole(path: Path, message: bytes) -> None:
    with mh.open_fifo(path, "r+") as fifo:
        thread = threading.Thread(target=fifo.send, args=(message,))
        thread.start()
        assert fifo.recv(timeout=WAIT_S) == message
        thread.join(WAIT_S)
        assert not fifo.poll()


def test_bytes_like_objects_are_messages(path: Path) -> None:
    with mh.open_fifo(path, "r+") as fifo:
        for message in (bytearray(b"one"), memoryview(b"two")):
            fifo.send(message)
        assert [fifo.recv(), fifo.recv()] == [b"one", b"two"]
        with pytest.raises(TypeError, match="pickle=True"):
            fifo.send("text")
        assert not fifo.poll()


def test_objects_are_messages_if_one_says_so(path: Path) -> None:
    with mh.open_fifo(path, "r+", pickle=True) as fifo:
        fifo.send({"a": [1, 2]})
        assert fifo.recv() == {"a": [1, 2]}
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            fifo.send(threading.Lock())
        assert not fifo.poll()


def test_the_last_writer_ends_it(path: Path) -> None:
    with mh.open_fifo(path) as reader:
        assert not reader.poll(0.001), "nobody has written yet: that is no end"
        with mh.open_fifo(path, "w") as writer:
            writer.send(b"one")
            writer.send(b"two")
        assert list(reader) == [b"one", b"two"]
        assert reader.poll(), "the end can be received"
        with pytest.raises(EOFError, match="every writer"):
            reader.recv()
        with mh.open_fifo(path, "w") as writer:
            writer.send(b"three")
            assert reader.recv() == b"three"


def test_the_last_reader_breaks_it(path: Path) -> None:
    reader = mh.open_fifo(path)
    with mh.open_fifo(path, "w") as writer:
        reader.close()
        with pytest.raises(BrokenPipeError):
            writer.send(b"x")


def test_times_are_kept(path: Path) -> None:
    with pytest.raises(TimeoutError, match="nobody has opened"):
        mh.open_fifo(path, "w", timeout=0.02)
    with mh.open_fifo(path, "r+") as fifo:
        with pytest.raises(TimeoutError, match="no message"):
            fifo.recv(timeout=0.02)
        with pytest.raises(TimeoutError, match="no room"):
            fifo.send(bytes(1_000_000), timeout=0.02)
        assert not fifo.poll(), "a message without its end is none"
        fifo.send(b"next")
        assert fifo.recv(timeout=WAIT_S) == b"next"
        with pytest.raises(ValueError, match="non-negative"):
            fifo.recv(timeout=-1)


def test_mistakes_are_named(path: Path) -> None:
    with pytest.raises(ValueError, match="'r', 'w' or 'r\\+', not 'rw'"):
        mh.open_fifo(path, "rw")
    nowhere = path / "no" / "folder"
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(nowhere)))):
        mh.open_fifo(nowhere)
    path.write_text("a file")
    with pytest.raises(FileExistsError, match="not a FIFO"):
        mh.open_fifo(path)
    path.unlink()
    with mh.open_fifo(path) as reader:
        with pytest.raises(OSError, match="read-only"):
            reader.send(b"x")
        with mh.open_fifo(path, "w") as writer, pytest.raises(OSError, match="write-only"):
            writer.recv()
    with pytest.raises(OSError, match="handle is closed"):
        reader.recv()


def test_it_pickles_as_its_path(path: Path) -> None:
    with mh.open_fifo(path, "r+", pickle=True) as fifo:
        with pickle.loads(pickle.dumps(fifo)) as other:
            other.send([1])
            assert fifo.recv() == [1]


# ---------------------------------------------------------------------- coroutines


@pytest.mark.on_each_python
def test_coroutines(path: Path) -> None:
    async def consume(fifo: mh.Fifo) -> list[bytes]:
        return [message async for message in fifo]

    async def main() -> list[bytes]:
        with mh.open_fifo(path) as reader:
            consumer = asyncio.create_task(consume(reader))
            with mh.open_fifo(path, "w") as writer:
                for message in (b"one", bytes(300_000), b"three"):
                    await writer.async_send(message)
            return await asyncio.wait_for(consumer, WAIT_S)

    assert asyncio.run(main()) == [b"one", bytes(300_000), b"three"]


@pytest.mark.on_each_python
def test_two_coroutines_take_turns(path: Path) -> None:
    async def main() -> list[bytes]:
        with mh.open_fifo(path, "r+") as fifo:
            tasks = [asyncio.create_task(fifo.async_recv()) for _ in range(2)]
            await asyncio.sleep(0)
            fifo.send(b"one")
            fifo.send(b"two")
            return list(await asyncio.wait_for(asyncio.gather(*tasks), WAIT_S))

    assert sorted(asyncio.run(main())) == [b"one", b"two"]


def test_a_length_beyond_reason_is_refused_at_once() -> None:
    messages = Messages()
    with pytest.raises(OSError, match="not a message"):
        messages.feed(b"99999999:")
    messages.feed(b"2:ok,")
    assert messages.take() == b"ok"


@pytest.mark.on_each_python
def test_a_cancelled_coroutine_leaves_nothing(path: Path) -> None:
    async def main() -> bytes:
        with mh.open_fifo(path, "r+") as fifo:
            task = asyncio.create_task(fifo.async_recv())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            fifo.send(b"later")
            message: bytes = await asyncio.wait_for(fifo.async_recv(), WAIT_S)
            return message

    assert asyncio.run(main()) == b"later"


# ---------------------------------------------------------------------- several programs


@pytest.mark.skipif(shutil.which("printf") is None, reason="there is no printf here")
def test_a_shell_takes_part(path: Path) -> None:
    with mh.open_fifo(path) as reader:
        script = "printf '%d:%s,' 5 hello > \"$0\"; printf '%d:%s,' 2 hi > \"$0\""
        subprocess.run(["sh", "-c", script, str(path)], check=True, timeout=WAIT_S)
        assert list(reader) == [b"hello", b"hi"]


def test_a_program_that_knows_only_the_path(path: Path) -> None:
    program = (
        "import sys, manyhands as mh\n"
        "with mh.open_fifo(sys.argv[1], 'w') as fifo:\n"
        "    for n in range(3):\n"
        "        fifo.send(b'%d' % n)\n"
    )
    with mh.open_fifo(path) as reader:
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=WAIT_S)
        assert list(reader) == [b"0", b"1", b"2"]


def write_letters(fifo: mh.Fifo, letter: bytes, times: int) -> None:
    with fifo:
        for turn in range(times):
            fifo.send(letter * (10 if turn % 3 else 20_000))


@pytest.mark.parametrize("context", [SPAWN, FORK], ids=["spawn", "fork"])
def test_messages_of_several_writers_never_mix(path: Path, context: object) -> None:
    times = 60
    with mh.open_fifo(path) as reader:
        writer = mh.open_fifo(path, "w")
        children = [
            context.Process(target=write_letters, args=(writer, letter, times))  # type: ignore[attr-defined]
            for letter in (b"a", b"b", b"c")
        ]
        for child in children:
            child.start()
        received = Counter(reader.recv(timeout=WAIT_S) for _ in range(3 * times))
        writer.close()
        for child in children:
            child.join(WAIT_S)
    expected = {letter * 10: times * 2 // 3 for letter in (b"a", b"b", b"c")}
    expected |= {letter * 20_000: times // 3 for letter in (b"a", b"b", b"c")}
    assert received == expected


def test_a_writer_waits_for_the_lock_of_a_longer_message(path: Path) -> None:
    with mh.open_fifo(path, "r+") as fifo:
        with path.open("rb+", buffering=0) as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(TimeoutError, match="no room"):
                fifo.send(b"x", timeout=0.02)
            assert not fifo.poll()
        fifo.send(b"x", timeout=WAIT_S)
        assert fifo.recv() == b"x"


def test_a_writer_killed_in_the_middle_of_a_message(path: Path) -> None:
    program = """
import itertools, os, signal, sys
import manyhands as mh
fifo = mh.open_fifo(sys.argv[1], "w")
write, count = fifo._try_write, itertools.count()
fifo._try_write = lambda part: (
    os.kill(os.getpid(), signal.SIGKILL) if next(count) == 3 else write(part)
)
fifo.send(bytes(1_000_000))
"""
    with mh.open_fifo(path) as reader:
        command = [sys.executable, "-c", program, str(path)]
        killed = subprocess.run(command, timeout=WAIT_S, check=False)
        assert killed.returncode == -signal.SIGKILL
        with mh.open_fifo(path, "w") as second:
            second.send(b"whole")
            assert reader.recv(timeout=WAIT_S) == b"whole"
