"""A process that forks for days, as servers do: what it uses stays what it was."""

from __future__ import annotations

import socketserver
import subprocess
import sys
from pathlib import Path
from socket import AF_UNIX, SHUT_WR, socket
from typing import Any

import pytest

import manyhands as mh

# Thousands of forks, on a machine that may have others to run, too.
pytestmark = pytest.mark.timeout(150)

# A process of its own shares nothing but what the test makes.
PROGRAM = """
import os, sys
import manyhands as mh
from manyhands._memory.share import shared_memory

def used():
    return shared_memory()[0]

def forked(fn=lambda: None):
    pid = os.fork()
    if pid == 0:
        try:
            fn()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return pid

def ended(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def program(code: str) -> str:
    """Run a program; what it prints."""
    command = [sys.executable, "-c", PROGRAM + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.once("what could grow with each fork is shared memory, which Rust keeps")
def test_memory_after_many_forks_is_what_it_was() -> None:
    code = """
locks = [mh.Lock() for _ in range(100)]
most = set()
for _ in range(1200):
    shared = mh.Array("B", 1 << 20)
    ended(forked())
    del shared
    most.add(used())
print(max(most) - min(most), len(locks))
"""
    spread, _ = program(code).split()
    assert int(spread) <= 4 << 20


def test_children_that_live_long_keep_only_what_they_had() -> None:
    """More of them than can be told of at once when they die."""
    code = """
lock = mh.Lock()
reads, writes = os.pipe()
before = used()
shared = mh.Array("B", 8 << 20)

def use():
    os.close(writes)
    os.read(reads, 1)
    with lock:
        assert len(shared) == 8 << 20

children = [forked(use) for _ in range(530)]
del shared
assert used() >= before + (8 << 20)
os.close(writes)
for child in children:
    ended(child)
for _ in range(3):
    shared = mh.Array("B", 8 << 20)
    del shared
print(used() - before)
with lock:
    pass
"""
    assert int(program(code)) <= 0


def test_children_of_a_child_use_up_nothing() -> None:
    """The process that made the lock does nothing; its child forks, and theirs die with it."""
    code = """
lock = mh.Lock()

def serve():
    for _ in range(700):
        ended(forked())
    pid = forked(lambda: lock.acquire())
    ended(pid)
    try:
        lock.acquire()
    except mh.OwnerDied:
        lock.recover()
    lock.release()

ended(forked(serve))
with lock:
    print("done")
"""
    assert program(code) == "done"


@pytest.mark.once("what could grow with each fork is shared memory, which Rust keeps")
def test_an_owner_that_dies_after_many_forks() -> None:
    code = """
import signal, threading
lock = mh.Lock()
for _ in range(600):
    ended(forked())
reads, writes = os.pipe()

def own():
    lock.acquire()
    os.write(writes, b"x")
    signal.pause()

pid = forked(own)
os.read(reads, 1)
killer = threading.Timer(0.05, os.kill, (pid, signal.SIGKILL))
killer.start()
try:
    lock.acquire()
except mh.OwnerDied:
    lock.recover()
    print("told")
"""
    assert program(code) == "told"


@pytest.mark.once("what could grow with each fork is shared memory, which Rust keeps")
def test_a_queue_and_two_thousand_forks() -> None:
    code = """
queue = mh.Queue()
descriptors = len(os.listdir("/proc/self/fd"))
for number in range(2000):
    ended(forked((lambda: queue.put(number)) if number % 10 == 0 else int))
assert len(os.listdir("/proc/self/fd")) == descriptors
assert [queue.get(timeout=20) for _ in range(200)] == list(range(0, 2000, 10))
print(queue.empty())
"""
    assert program(code) == "True"


@pytest.mark.once("what could grow with each fork is shared memory, which Rust keeps")
def test_a_pipe_and_more_forks_than_it_has_places_for_holders() -> None:
    code = """
receiver, sender = mh.Pipe(duplex=False)
for number in range(600):
    ended(forked((lambda: sender.send("hello")) if number % 200 == 0 else int))
assert [receiver.recv() for _ in range(3)] == ["hello"] * 3
sender.close()
try:
    receiver.recv()
except EOFError:
    print("the end")
"""
    assert program(code) == "the end"


@pytest.mark.once("what could grow with each fork is shared memory, which Rust keeps")
def test_named_locks_and_many_forks() -> None:
    code = """
lock = mh.Lock(name=f"{os.getpid()} forks")
counter = mh.Value("i", 0)

def count():
    with lock:
        counter.value += 1

for _ in range(600):
    ended(forked(count))
print(counter.value)
"""
    assert program(code) == "600"


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks for every request, as the stdlib does."""

    served: Any


class Request(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        with self.server.served.get_lock():
            self.server.served.value += 1
        self.wfile.write(self.rfile.read().upper())


@pytest.mark.once("what could grow with each fork is shared memory, which Rust keeps")
def test_a_forking_server(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    requests = 200
    with Server(path, Request) as server:
        server.served = mh.Value("i", 0)
        for number in range(requests):
            with socket(AF_UNIX) as client:
                client.connect(path)
                client.sendall(b"request %d" % number)
                client.shutdown(SHUT_WR)
                server.handle_request()
                answer = b"".join(iter(lambda: client.recv(100), b""))
                assert answer == b"REQUEST %d" % number
    assert server.served.value == requests


def test_a_child_that_unwinds_takes_no_coroutine_off_the_list() -> None:
    code = """
import asyncio
from manyhands._sync.wake_socket import _loop_sockets

async def main():
    condition, event, barrier = mh.Condition(), mh.Event(), mh.Barrier(2)

    async def notified():
        async with condition:
            return await condition.async_wait()

    waits = [notified(), event.async_wait(), barrier.async_wait()]
    tasks = [asyncio.create_task(wait) for wait in waits]
    while not (condition.statistics()["waiting"] and event.statistics()["waiting"]):
        await asyncio.sleep(0.001)
    loop = asyncio.get_running_loop()
    socket = _loop_sockets[loop].socket.fileno()
    current = asyncio.current_task()
    pid = os.fork()
    if pid == 0:
        if sys.version_info >= (3, 14):
            # A child forgets which loop and task it is in, and then lets no exception out of it.
            asyncio._set_running_loop(loop)
            asyncio.tasks._enter_task(loop, current)
        # All tasks of the loop are cancelled, also those that the parent waits in.
        raise SystemExit
    ended(pid)
    with open(f"/proc/self/fdinfo/{loop._selector.fileno()}") as watched:
        print(f"tfd: {socket:8} " in watched.read(), end=" ")
    assert barrier.n_waiting == 1
    await barrier.async_wait()
    event.set()
    async with condition:
        condition.notify_all()
    async with asyncio.timeout(30):
        print(await asyncio.gather(*tasks))

asyncio.run(main())
"""
    assert program(code).splitlines()[-1] == "True [True, True, 0]"


def test_a_child_that_leaves_a_signal_handler_takes_no_thread_off_the_list() -> None:
    code = """
import signal, threading

condition = mh.Condition()
parent = os.getpid()

def fork(*_):
    pid = os.fork()
    if pid == 0:
        raise SystemExit
    global child
    child = pid

def notify():
    with condition:
        os.kill(parent, signal.SIGUSR1)
    while child is None:
        pass
    with condition:
        condition.notify_all()

child = None
signal.signal(signal.SIGUSR1, fork)
with condition:
    threading.Thread(target=notify).start()
    notified = condition.wait(60)
if os.getpid() == parent:
    ended(child)
    print(notified)
"""
    assert program(code) == "True"
