"""What is left when everybody has been killed: nothing. What many objects cost: little memory."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import manyhands as mh
from eventually import eventually, processes_with
from manyhands._memory.share import shared_memory

MARK = "MANYHANDS_LEFTOVERS"
PID_BITS = 22

# A program that has one of everything, in every kind of process, and then says so.
PROGRAM = """
import asyncio, multiprocessing, os, sys, threading, time
import manyhands as mh

NAME = sys.argv[1]

def wait_for_ever(ready, *things):
    lock = mh.Lock()                      # in a shared heap of its own
    lock.acquire()
    named = mh.Semaphore(50, name=NAME)
    named.acquire()
    ready.put(os.getpid())
    mh.Event().wait()

def main():
    lock, event, queue = mh.Lock(), mh.Event(), mh.Queue(name=NAME + " queue")
    here, there = mh.Pipe()
    priorities = mh.PriorityQueue()
    named = mh.Semaphore(50, name=NAME)
    ready = mh.SimpleQueue()
    for number in range(1000):
        queue.put(b"x" * number)
    priorities.put((1, "item"))
    here.send("unread")
    things = (lock, event, queue, there, priorities)
    children = [
        multiprocessing.get_context(way).Process(target=wait_for_ever, args=(ready, *things))
        for way in ("fork", "spawn", "forkserver")
    ]
    for child in children:
        child.start()
    pool = mh.ProcessPoolExecutor(max_workers=2)
    futures = [pool.submit(wait_for_ever, ready, *things) for _ in range(2)]
    pids = [ready.get() for _ in range(5)]
    lock.acquire()
    threading.Thread(target=lock.acquire, daemon=True).start()
    threading.Thread(target=asyncio.run, args=(event.async_wait(),), daemon=True).start()
    print("ready", flush=True)
    queue.get(), event.wait()

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a program may leave files, if it leaves any: short, as addresses of sockets are."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def segments(name: str) -> list[str]:
    """Where, in whatever process, a segment of this name is open or mapped."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            links = [os.readlink(file) for file in (process / "fd").iterdir()]
            links += (process / "maps").read_text().splitlines()
        except OSError:
            continue
        found += [f"{process.name}: {link}" for link in links if name in link]
    return found


def sockets_of(pids: list[int]) -> list[str]:
    """Addresses of ours that are in use in the name of one of these processes."""
    sockets = re.findall(r"@(manyhands:wake:([0-9a-f]+):\w+)", Path("/proc/net/unix").read_text())
    # The number of a process is the low end of what tells it from all others.
    return [address for address, who in sockets if int(who, 16) & ((1 << PID_BITS) - 1) in pids]


def files() -> set[str]:
    """Return what stands where programs leave shared memory and semaphores."""
    return set(os.listdir("/dev/shm"))


@pytest.mark.parametrize("order", ["all at once", "the first one first", "the first one last"])
def test_nothing_is_left_when_all_are_killed(order: str, folder: Path, tmp_path: Path) -> None:
    program, name, mark = tmp_path / "program.py", f"leftovers {uuid.uuid4().hex}", uuid.uuid4().hex
    program.write_text(PROGRAM)
    before = files()
    environment = os.environ | {MARK: mark, "TMPDIR": str(folder), "HOME": str(folder)}
    command = [sys.executable, str(program), name]
    with subprocess.Popen(command, env=environment, cwd=folder, stdout=-1, text=True) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "ready\n"
            pids = processes_with(MARK, mark)
            # Itself, three children, two servants of multiprocessing, the zygote, two workers.
            assert len(pids) >= 9
            assert segments(name)
            eventually(lambda: sockets_of(pids), "its event loop can be knocked for")
        finally:
            pids = processes_with(MARK, mark)
            victims = {
                "all at once": pids,
                "the first one first": [first.pid, *pids],
                "the first one last": [*[pid for pid in pids if pid != first.pid], first.pid],
            }[order]
            for pid in victims:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    assert order != "all at once" or pid != first.pid
    eventually(lambda: not processes_with(MARK, mark), "no process is left")
    eventually(lambda: not segments(name), "no segment is left")
    eventually(lambda: not sockets_of(pids), "no socket is left")
    # The stdlib's forkserver has a folder for its socket, and was killed as well.
    assert not [path for path in folder.rglob("*") if "pymp-" not in str(path)]
    assert not {file for file in files() - before if "manyhands" in file}


def test_many_locks_take_no_descriptor() -> None:
    first = mh.Lock()
    gc.collect()
    before, (in_use, _) = descriptors(), shared_memory()
    locks = [mh.Lock() for _ in range(100_000)]
    assert descriptors() == before
    assert shared_memory()[0] - in_use < 24 << 20
    assert len({lock._address() for lock in locks[::1000]}) == 100
    for lock in locks[::997]:
        assert lock.acquire(False)
    assert not first.locked()
    assert not locks[1].locked()
    del lock, locks
    gc.collect()
    # The memory is there for what comes next.
    again = [mh.Lock() for _ in range(100_000)]
    assert not any(lock.locked() for lock in again)
    assert descriptors() == before
    assert shared_memory()[0] - in_use < 25 << 20


def test_named_objects_take_a_descriptor_each_and_give_it_back() -> None:
    mh.Lock()
    gc.collect()
    before = descriptors()
    named = [mh.Lock(name=f"{os.getpid()} leftovers {number}") for number in range(50)]
    assert descriptors() == before + 50
    same = [mh.Lock(name=lock.name) for lock in named]
    assert descriptors() == before + 50
    del named, same
    gc.collect()
    assert descriptors() == before
