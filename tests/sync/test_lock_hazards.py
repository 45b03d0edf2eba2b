"""Locks at bad moments: Ctrl-C between getting one and saying so, errors on the way, the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

LOCKS: list[Callable[..., Any]] = [mh.Lock, mh.RLock]
LIMIT_S = 60


def name_of(kind: Any) -> str:
    return str(kind.__name__)


def run(program: str, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert ended.returncode == 0, (ended.returncode, ended.stderr)
    return ended.stdout


# Once for each time it is armed: not in the middle of what follows.
HANDLER = """
armed = False

def interrupted(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
"""

INTERRUPTED = (
    HANDLER
    + """
import os, signal, sys, threading, time
import manyhands as mh

lock = getattr(mh, sys.argv[1])()

def other():
    while True:
        with lock:
            time.sleep(0.0005)
        time.sleep(0.0002)

def interrupt():
    while True:
        time.sleep(0.003)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

signal.signal(signal.SIGINT, interrupted)
for each in (other, interrupt):
    threading.Thread(target=each, daemon=True).start()
interrupts = 0
while interrupts < 150:
    try:
        armed = True
        for _ in range(50):
            with lock:
                pass
        armed = False
    except KeyboardInterrupt:
        interrupts += 1
        assert lock.acquire(timeout=20), "nobody has it, and it is locked"
        lock.release()
print("ok", flush=True)
os._exit(0)
"""
)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_an_interrupt_before_the_block_begins_leaves_the_lock_free(kind: Any) -> None:
    if kind is mh.Lock and sys.version_info[:2] == (3, 14):
        pytest.skip("CPython 3.14 runs handlers there: threading.Lock fails this, too")
    assert run(INTERRUPTED, name_of(kind)) == "ok\n"


AT_EXIT = """
import sys, threading, time
import manyhands as mh

lock = mh.Lock()
lock.acquire()

def wait(delay):
    time.sleep(delay)
    lock.acquire(timeout=5)

for number in range(60):
    threading.Thread(target=wait, args=(number * 0.001,), daemon=True).start()
time.sleep(0.03)
print("ok", flush=True)
"""


@pytest.mark.parametrize("_time", range(8))
def test_the_interpreter_ends_while_daemon_threads_wait(_time: int) -> None:
    assert run(AT_EXIT) == "ok\n"


def leave_to_the_dead(lock: Any) -> None:
    """Has a process die that holds the lock."""
    pid = os.fork()
    if pid == 0:
        lock.acquire()
        os._exit(0)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_coroutine_that_does_not_enter_does_not_keep_the_lock(kind: Any) -> None:
    lock = kind()
    leave_to_the_dead(lock)

    async def enter() -> None:
        async with lock:
            pass

    with pytest.raises(mh.OwnerDied) as caught:
        asyncio.run(enter())
    assert caught.value.held is False
    assert "acquire() raises this again" in str(caught.value)
    assert not lock.locked()
    assert lock.recover()
    asyncio.run(enter())


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_function_that_fails_to_put_things_right_leaves_the_lock_free(kind: Any) -> None:
    def fail(error: mh.OwnerDied) -> None:
        raise ValueError("beyond repair") from error

    lock = kind(on_owner_died=fail)
    leave_to_the_dead(lock)
    for enter in (lock.acquire, lock.__enter__):
        with pytest.raises(ValueError, match="beyond repair"):
            enter()
        assert not lock.locked()


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_cancelled_wait_for_a_condition_comes_back_with_its_lock(kind: Any) -> None:
    condition = mh.Condition(kind())
    owned = []

    def wait() -> None:
        with condition:
            try:
                condition.wait()
            finally:
                owned.append(condition._is_owned())

    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.submit(wait)
        eventually(lambda: condition.statistics()["waiting"] == 1, "it waits")
        with condition:
            future.cancel()
            assert not owned
        eventually(lambda: owned, "it has come back")
    assert owned == [True]
    assert not condition._lock.locked()


class Eager(mh.Lock):
    """A lock that calls a function right after its next release."""

    after: Callable[[], None] | None = None

    def release(self) -> None:
        super().release()
        after, self.after = self.after, None
        if after is not None:
            after()


def test_a_notification_before_the_first_look_is_used_once() -> None:
    lock = Eager()
    condition = mh.Condition(lock)
    later = []

    def notify() -> None:
        # Another begins to wait, and one is notified: the one who waits longer.
        later.append(condition._enlist(1))
        condition._notify(1)

    async def main() -> bool:
        async with condition:
            lock.after = notify
            return await condition.async_wait(20)

    assert asyncio.run(main()) is True
    assert not later[0].is_notified()
    later[0].leave(False)


WAITING = (
    HANDLER
    + """
import os, signal, sys, threading, time
import manyhands as mh

signal.signal(signal.SIGALRM, interrupted)
condition = mh.Condition(getattr(mh, sys.argv[1])())
times = lost = 0
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.00031)
while times < 2000:
    condition.acquire()
    try:
        armed = True
        condition.wait(0.0002)
        armed = False
    except KeyboardInterrupt:
        times += 1
    lost += not condition._is_owned()
    if condition._is_owned():
        condition.release()
signal.setitimer(signal.ITIMER_REAL, 0)
print(lost, flush=True)
"""
)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_an_interrupted_wait_for_a_condition_comes_back_with_its_lock(kind: Any) -> None:
    assert run(WAITING, name_of(kind)) == "0\n"


@pytest.mark.parametrize("name", [None, "test-text-of-death"])
@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_who_died_is_not_taken_for_who_is_told(kind: Any, name: str | None) -> None:
    # Its own for each kind: what holds the one before may be collected later.
    name = name and f"{name}-{kind.__name__}"
    lock = kind(name=name)
    leave_to_the_dead(lock)
    called = f"{kind.__name__} {name!r}" if name else f"{kind.__name__} 0x"
    for take, advice in ((lock.acquire, "release it"), (lock.__enter__, "not held now")):
        with pytest.raises(mh.OwnerDied) as caught:
            take()
        text = str(caught.value)
        assert called in text
        assert advice in text
        assert str(os.getpid()) not in text
        if caught.value.held:
            lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("way", ["with", "acquire"])
def test_a_task_does_not_wait_for_itself_as_a_thread(way: str) -> None:
    lock = mh.RLock()

    async def main() -> None:
        async with lock:
            with pytest.raises(RuntimeError, match="asyncio task holds this lock"):
                lock.__enter__() if way == "with" else lock.acquire()
            assert not lock.acquire(False)
            assert not lock.acquire(timeout=0.01)
            # Another thread is not the task: it waits as ever.
            with mh.ThreadPoolExecutor(1) as pool:
                assert pool.submit(lock.acquire, timeout=0.01).result() is False
            async with lock:
                pass
        with lock:
            pass

    asyncio.run(main())


OWNED = """
import os, signal, sys, threading, time
import manyhands as mh

def owner_of(lock):
    # A process that has the lock until it is killed.
    readable, writable = os.pipe()
    owner = os.fork()
    if owner == 0:
        lock.acquire()
        os.write(writable, b".")
        signal.pause()
    os.read(readable, 1)
    return owner
"""

TAKES_OVER = f"""{OWNED}
lock = mh.Lock()
owner = owner_of(lock)
got = []
def wait():
    try:
        lock.acquire()
    except mh.OwnerDied:
        got.append(time.monotonic())
waiter = threading.Thread(target=wait)
waiter.start()
time.sleep(0.3)
sys.setswitchinterval(1.0)  # seconds that this thread keeps the interpreter each time
killed = time.monotonic()
os.kill(owner, signal.SIGKILL)
while not got and time.monotonic() < killed + 6.0:
    pass
print(got[0] - killed if got else "never")
lock.recover()
lock.release()
waiter.join()
os.waitpid(owner, 0)
"""


def test_a_dead_owners_lock_does_not_wait_for_a_thread_that_computes() -> None:
    # Older Pythons do not look before the interval is over; after that, they do.
    intervals = 0 if sys.version_info >= (3, 13) else 1
    assert float(run(TAKES_OVER)) < intervals + 0.7


TELLS_OF_A_DEATH = f"""{OWNED}
lock = mh.Lock()
os.kill(owner_of(lock), signal.SIGKILL)
os.wait()
before = set(sys.modules)
try:
    lock.acquire()
except BaseException as error:
    assert type(error) is mh.OwnerDied, error
lock.recover()
lock.release()
print([name for name in sys.modules if name not in before and not name.startswith("manyhands.")])
"""


def test_the_news_of_a_death_imports_nothing_of_the_standard_library() -> None:
    # Files are read for it, one by one, each of which may take a turn of a thread that computes.
    assert run(TELLS_OF_A_DEATH).strip() == "[]"


# The fork happens while a thread of the parent takes over. Prints for how long the main thread
# of the child could not compute.
TAKES_OVER_IN_A_FORK = f"""{OWNED}
def hand_over(told):
    # The pause of this thread, which computes, until the other one has the lock.
    lock = mh.Lock(on_owner_died=told)
    owner = owner_of(lock)
    done = threading.Event()
    def wait():
        lock.acquire()
        lock.recover()
        lock.release()
        done.set()
    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.1)
    os.kill(owner, signal.SIGKILL)
    pause, end, last = 0.0, time.monotonic() + 10.0, time.monotonic()
    while not done.is_set():
        now = time.monotonic()
        pause, last = max(pause, now - last), now
        assert now < end, "never"
        if told is not passed and telling.is_set():
            child = os.fork()
            if child == 0:
                print(min(hand_over(passed) for _ in range(8)), flush=True)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            forked.set()
            done.wait()
    waiter.join()
    os.waitpid(owner, 0)
    return max(pause, time.monotonic() - last) if told is passed else 0.0

def passed(_):
    pass

def kept(_):
    telling.set()
    forked.wait()

telling, forked = threading.Event(), threading.Event()
sys.setswitchinterval(0.001)
hand_over(kept)
"""


def test_a_fork_leaves_its_parents_haste_behind() -> None:
    # With it, the main thread would stand aside for 50 ms each time.
    assert float(run(TAKES_OVER_IN_A_FORK)) < 0.04


# Prints how soon after its owner's death the main thread had a lock, at best.
TAKES_OVER_IN_THE_MAIN_THREAD = f"""{OWNED}
def seconds():
    lock = mh.Lock(on_owner_died=lambda _: None)
    owner = owner_of(lock)
    killed = []
    def kill():
        time.sleep(0.05)
        killed.append(time.monotonic())
        os.kill(owner, signal.SIGKILL)
    killer = threading.Thread(target=kill)
    killer.start()
    lock.acquire()
    taken = time.monotonic() - killed[0]
    lock.recover()
    lock.release()
    killer.join()
    os.waitpid(owner, 0)
    return taken

print(min(seconds() for _ in range(8)))
"""


def test_the_main_thread_does_not_stand_aside_for_itself() -> None:
    assert float(run(TAKES_OVER_IN_THE_MAIN_THREAD)) < 0.04
