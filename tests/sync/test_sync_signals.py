"""Signals and forks in the middle of everything: Ctrl-C in each wait, set() in a handler, fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import begun, eventually, let_go
from holders import JOIN_S, asleep, is_free, running, waiting

FORK: Any = multiprocessing.get_context("fork")


def name_of(kind: Any) -> str:
    return str(kind.__name__)


# Ctrl-C


def taken(kind: Callable[[], Any]) -> Callable[[], tuple[Any, Callable[..., object]]]:
    """Return a lock that this process has; another waits for it."""

    def make() -> tuple[Any, Callable[..., object]]:
        lock = kind()
        lock.acquire()
        return lock, lock.acquire

    return make


def filled(kind: Any, item: object = 1) -> Callable[[], tuple[Any, Callable[..., object]]]:
    """Return a queue that is full."""

    def make() -> tuple[Any, Callable[..., object]]:
        queue = kind(1)
        queue.put(item)
        return queue, lambda **limit: queue.put(item, **limit)

    return make


def empty(kind: Any) -> Callable[[], tuple[Any, Callable[..., object]]]:
    def make() -> tuple[Any, Callable[..., object]]:
        queue = kind()
        return queue, queue.get

    return make


def with_lock(method: str, *args: Any) -> Callable[[], tuple[Any, Callable[..., object]]]:
    """Return a condition whose lock is held, as it must be again after an interrupted wait."""

    def make() -> tuple[Any, Callable[..., object]]:
        condition = mh.Condition()

        def wait(**limit: Any) -> None:
            with condition:
                try:
                    getattr(condition, method)(*args, **limit)
                finally:
                    assert condition._is_owned()

        return condition, wait

    return make


def an_event() -> tuple[Any, Callable[..., object]]:
    event = mh.Event()
    return event, event.wait


def a_barrier() -> tuple[Any, Callable[..., object]]:
    barrier = mh.Barrier(2)
    return barrier, barrier.wait


def unfinished() -> tuple[Any, Callable[..., object]]:
    queue = mh.JoinableQueue()
    queue.put(1)
    return queue, queue.join


def a_pipe() -> tuple[Any, Callable[..., object]]:
    ends = mh.Pipe()
    return ends, ends[0].recv


def a_polled_pipe() -> tuple[Any, Callable[..., object]]:
    ends = mh.Pipe()
    return ends, lambda timeout=None: ends[0].poll(timeout)


def a_full_pipe() -> tuple[Any, Callable[..., object]]:
    ends = mh.Pipe()

    def send() -> None:
        while True:
            ends[0].send_bytes(bytes(1 << 20))

    return ends, send


# What can be waited for, and how a wait of it begins.
WAITS: dict[str, Callable[[], tuple[Any, Callable[..., object]]]] = {
    "Lock.acquire": taken(mh.Lock),
    "RLock.acquire": taken(mh.RLock),
    "Semaphore.acquire": taken(mh.Semaphore),
    "BoundedSemaphore.acquire": taken(mh.BoundedSemaphore),
    "Event.wait": an_event,
    "Condition.wait": with_lock("wait"),
    "Condition.wait_for": with_lock("wait_for", bool),
    "Barrier.wait": a_barrier,
    "Queue.get": empty(mh.Queue),
    "Queue.put": filled(mh.Queue),
    "JoinableQueue.get": empty(mh.JoinableQueue),
    "JoinableQueue.join": unfinished,
    "SimpleQueue.get": empty(mh.SimpleQueue),
    "LifoQueue.get": empty(mh.LifoQueue),
    "LifoQueue.put": filled(mh.LifoQueue),
    "PriorityQueue.get": empty(mh.PriorityQueue),
    "PriorityQueue.put": filled(mh.PriorityQueue, (1, "item")),
    "Connection.recv": a_pipe,
    "Connection.poll": a_polled_pipe,
    "Connection.send": a_full_pipe,
}
# Those that take no time limit.
ENDLESS = {"JoinableQueue.join", "SimpleQueue.get", "Connection.recv", "Connection.send"}


def interrupted(folder: Path, name: str, wait: Callable[[], object]) -> None:
    """Wait, be interrupted, and do so again: what was interrupted is still in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in range(3):
        try:
            tasks.announce(folder, f"{name}-{number}")
            wait()
        except KeyboardInterrupt:
            continue
        raise AssertionError("the wait came to an end")
    tasks.announce(folder, name)
    # As long as it stays, nobody can mistake it for dead.
    eventually(lambda: (folder / "go").exists(), "go")


@pytest.mark.parametrize("limited", [False, True], ids=["endless", "limited"])
@pytest.mark.parametrize("what", WAITS)
def test_keyboard_interrupt(what: str, limited: bool, tmp_path: Path) -> None:
    if limited and what in ENDLESS:
        pytest.skip("takes no time limit")
    thing, wait = WAITS[what]()
    limit = {"timeout": 1000.0} if limited else {}
    process = FORK.Process(target=interrupted, args=(tmp_path, "child", lambda: wait(**limit)))
    process.start()
    try:
        for number in range(3):
            begun(tmp_path, f"child-{number}")
            asleep(process.pid)
            os.kill(process.pid, signal.SIGINT)
        begun(tmp_path, "child")
        in_order(what, thing)
        let_go(tmp_path)
        process.join(JOIN_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()


def in_order(what: str, thing: Any) -> None:
    """After the interrupts, nothing is lost and nobody is counted as waiting."""
    kind = what.partition(".")[0]
    if kind in ("Lock", "RLock", "Semaphore", "BoundedSemaphore"):
        assert not is_free(thing)
        thing.release()
        assert is_free(thing)
    elif kind == "Event":
        thing.set()
        assert thing.wait(0)
    elif kind == "Condition":
        with thing:
            thing.notify()
            assert thing.wait(0) is False
    elif kind == "Barrier":
        assert thing.n_waiting == 0
        thing.reset()
        with ThreadPoolExecutor(1) as other:
            future = other.submit(thing.wait, 20)
            assert {thing.wait(20), future.result()} == {0, 1}
    elif kind == "Connection":
        if what == "Connection.send":
            while thing[1].poll():
                assert thing[1].recv_bytes() == bytes(1 << 20)
        thing[1].send("message")
        assert thing[0].recv() == "message"
        for end in thing:
            end.close()
    else:
        in_order_queue(what, thing)
    if hasattr(thing, "statistics"):
        waits = thing.statistics()
        assert waits.get("waiting", 0) == 0


def in_order_queue(what: str, queue: Any) -> None:
    item: object = (1, "item") if what.startswith("Priority") else 1
    if not queue.empty():
        assert queue.get() == item
    assert queue.empty()
    queue.put(item)
    assert queue.get() == item
    if what == "JoinableQueue.join":
        queue.task_done()
        queue.task_done()
        queue.join()
    queue.close()


@pytest.mark.parametrize("kind", [mh.Lock, mh.RLock, mh.Semaphore], ids=name_of)
def test_a_handler_that_returns_does_not_end_the_wait(kind: Any, tmp_path: Path) -> None:
    lock = kind()
    lock.acquire()
    process = FORK.Process(target=wait_through_signals, args=(tmp_path, lock))
    process.start()
    begun(tmp_path, "child")
    for number in range(3):
        asleep(process.pid)
        os.kill(process.pid, signal.SIGUSR1)
        begun(tmp_path, f"handled-{number}")
    lock.release()
    process.join(JOIN_S)
    assert process.exitcode == 0
    process.close()


def wait_through_signals(folder: Path, lock: Any) -> None:
    handled: list[int] = []

    def handle(*_: object) -> None:
        tasks.announce(folder, f"handled-{len(handled)}")
        handled.append(1)

    signal.signal(signal.SIGUSR1, handle)
    tasks.announce(folder, "child")
    assert lock.acquire() is True
    lock.release()
    assert len(handled) == 3


# set() in a handler


@contextmanager
def handler(number: signal.Signals, fn: Callable[[], object]) -> Iterator[None]:
    before = signal.signal(number, lambda *_: fn())
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("kind", ["Event", "Semaphore", "Lock"])
def test_a_signal_handler_may_use_what_it_interrupts(kind: str) -> None:
    """`threading.Event` hangs here sooner or later: the handler needs the lock that is held."""
    called = [0]
    thing: Any = getattr(mh, kind)()

    def use() -> None:
        called[0] += 1
        if kind == "Event":
            thing.set()
        elif thing.acquire(False):
            thing.release()

    def disturb() -> None:
        while called[0] < 2000:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            time.sleep(0)

    with handler(signal.SIGUSR1, use), ThreadPoolExecutor(1) as other:
        future = other.submit(disturb)
        while not future.done():
            if kind == "Event":
                thing.set()
                thing.clear()
                thing.wait(0.0001)
                thing.is_set()
            else:
                thing.acquire(timeout=0.0001)
                thing.release()
        future.result()
    assert called[0] >= 2000


def test_a_wait_ends_when_a_handler_sets_the_event() -> None:
    event = mh.Event()
    main = threading.main_thread()

    def interrupt() -> None:
        waiting(event)
        asleep(os.getpid(), main.native_id)
        signal.pthread_kill(main.ident or 0, signal.SIGUSR1)

    with handler(signal.SIGUSR1, event.set), ThreadPoolExecutor(1) as other:
        future = other.submit(interrupt)
        assert event.wait(20) is True
        future.result()


def test_an_event_set_in_a_handler_wakes_others() -> None:
    event = mh.Event()
    with handler(signal.SIGUSR1, event.set), ThreadPoolExecutor(3) as others:
        futures = [others.submit(event.wait, 20) for _ in range(3)]
        waiting(event, 3)
        signal.raise_signal(signal.SIGUSR1)
        assert all(future.result() for future in futures)


# Forks


def exits_well(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def forked(fn: Callable[[], object]) -> int:
    """Run the function in a fork of this process, whatever the other threads are doing."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # A child that hangs ends all the same.
        signal.alarm(20)
        fn()
        code = 0
    finally:
        os._exit(code)


def test_a_child_can_use_what_other_threads_were_using() -> None:
    lock, semaphore, event = mh.Lock(), mh.Semaphore(2), mh.Event()
    condition, queue, done = mh.Condition(), mh.Queue(), threading.Event()

    def use() -> None:
        with lock, semaphore, condition:
            condition.notify_all()
        event.set()
        event.clear()
        queue.put(1)
        queue.get()

    def keep_using() -> None:
        while not done.is_set():
            use()

    def use_as_child() -> None:
        for _ in range(10):
            use()
            with mh.Lock(), mh.RLock(), mh.Semaphore():
                pass
            assert mh.Event().wait(0.001) is False

    with ThreadPoolExecutor(2) as others:
        try:
            futures = [others.submit(keep_using) for _ in range(2)]
            for _ in range(30):
                exits_well(forked(use_as_child))
        finally:
            done.set()
        for future in futures:
            future.result(20)
    assert lock.acquire(timeout=20)
    assert semaphore.get_value() == 2
    assert queue.empty()
    queue.close()


@pytest.mark.parametrize("kind", [mh.Lock, mh.RLock, mh.Semaphore], ids=name_of)
def test_a_child_does_not_have_what_its_parent_holds(kind: Any) -> None:
    lock = kind()
    lock.acquire()

    def child() -> None:
        assert not lock.acquire(False)
        if kind is mh.RLock:
            with pytest.raises(RuntimeError):
                lock.release()

    exits_well(forked(child))
    # The end of the child has changed nothing.
    assert not is_free(lock)
    lock.release()
    assert is_free(lock)


def in_turn(lock: mh.Lock) -> None:
    lock.acquire()
    lock.release()


def test_a_child_waits_for_a_thread_of_its_parent() -> None:
    lock = mh.Lock()
    with ThreadPoolExecutor(1) as other:
        other.submit(lock.acquire).result()
        pid = forked(lambda: in_turn(lock))
        waiting(lock)
        other.submit(lock.release).result()
        exits_well(pid)
    assert lock.acquire(timeout=20)
    lock.release()


def test_a_child_may_release_what_its_parent_acquired() -> None:
    lock = mh.Lock()
    lock.acquire()
    exits_well(forked(lock.release))
    assert lock.acquire(False)
    lock.release()


def test_generations(tmp_path: Path) -> None:
    lock, permits = mh.Lock(on_owner_died="acquire"), mh.BoundedSemaphore(2)

    def grandchild() -> None:
        lock.acquire()
        permits.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        pid = forked(grandchild)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert lock.acquire() is True
        lock.release()
        assert permits.acquire()
        assert permits.acquire()
        permits.release(2)

    exits_well(forked(child))
    with running("fork", tmp_path, "child", tasks.hold):
        assert lock.acquire(False)
        lock.release()
    assert permits.get_value() == 2
