"""Names and addresses where other users are, or where processes may not be looked into.

Found by use: a lock by name was silently another one where the holder had dropped its privileges;
what a living process held was taken where /proc was that of another PID namespace; the n-th name
cost n.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import manyhands as mh
from eventually import eventually
from staying import (
    KEPT,
    LIBC,
    NOBODY,
    as_root,
    become_nobody,
    child,
    heard,
    hide,
    keep,
    mount,
    result,
    show,
)


@pytest.fixture
def name() -> str:
    return f"report {uuid.uuid4().hex}"


def lock_and_keep(name: str) -> str:
    lock = mh.Lock(name=name)
    assert lock.acquire(timeout=5)
    return keep(lock)


def state(name: str) -> str:
    """Whether the lock of that name is locked, in words."""
    return "locked" if mh.Lock(name=name).locked() else "free"


# Names


def test_a_name_in_a_process_that_may_not_be_looked_into(name: str) -> None:
    def holds() -> str:
        become_nobody()
        return lock_and_keep(name)

    def asks() -> str:
        become_nobody()
        return state(name)

    with child(holds) as (pid, said):
        assert heard(said) == "kept"
        answer = result(asks)
        assert answer.startswith(f"PermissionError: {name!r}".replace("'", '"')), answer
        assert f"process {pid}" in answer
        assert "PR_SET_DUMPABLE" in answer
        name += " another"
        assert result(asks) == "free", "other names are as always"
    name = name.removesuffix(" another")
    assert result(asks) == "free", "it has gone with its holder"


def test_a_name_in_a_process_that_hides_later(name: str) -> None:
    def holds() -> str:
        become_nobody()
        show()
        lock_and_keep(name)
        hide()
        return "kept"

    def asks() -> str:
        become_nobody()
        return state(name)

    with child(holds) as (_, said):
        assert heard(said) == "kept"
        assert result(asks).startswith("PermissionError")


@as_root
def test_a_name_that_was_root_s_when_it_was_opened(name: str) -> None:
    def holds() -> str:
        lock_and_keep(name)
        become_nobody()
        # From now on it is that user's name, too.
        return state(name)

    def asks() -> str:
        become_nobody()
        return state(name)

    with child(holds) as (_, said):
        assert heard(said) == "locked"
        assert result(asks).startswith("PermissionError")


def test_a_name_is_shared_by_those_who_may_be_looked_into(name: str) -> None:
    def holds() -> str:
        become_nobody()
        show()
        return lock_and_keep(name)

    def asks() -> str:
        become_nobody()
        return state(name)

    with child(holds) as (_, said):
        assert heard(said) == "kept"
        assert result(asks) == "locked", "who asks need not be"


def test_what_was_inherited_is_shared_by_name_after_dropping_privileges(name: str) -> None:
    lock = mh.Lock(name=name)

    def asks() -> str:
        become_nobody()
        return state(name)

    with lock:
        assert result(asks) == "locked"
    assert result(asks) == "free"


def test_an_address_in_a_process_that_may_not_be_looked_into() -> None:
    readable, writable = os.pipe()

    def holds() -> str:
        become_nobody()
        queue = mh.Queue()
        os.write(writable, pickle.dumps(queue))
        return keep(queue)

    with child(holds) as (pid, said):
        assert heard(said) == "kept"
        address = os.read(readable, 10_000)

        def asks() -> object:
            become_nobody()
            return pickle.loads(address)

        answer = result(asks)
        assert answer.startswith("PermissionError"), answer
        assert f"process {pid}" in answer
    with pytest.raises(FileNotFoundError):
        pickle.loads(address)
    os.close(readable)
    os.close(writable)


@as_root
def test_names_without_proc(name: str) -> None:
    def without(ask: Callable[[], str]) -> str:
        def act() -> str:
            mount("tmpfs", "/proc", "tmpfs")
            return ask()

        return result(act)

    with child(lambda: lock_and_keep(name)) as (pid, said):
        assert heard(said) == "kept"
        answer = without(lambda: state(name))
        assert answer.startswith("PermissionError"), answer
        assert f"process {pid}" in answer
        assert "/proc" in answer
    assert without(lambda: lock_and_keep(name)) == "kept", "what nobody has can be made"


@as_root
def test_names_where_processes_of_others_are_hidden(name: str) -> None:
    def asks() -> str:
        mount("proc", "/proc", "proc", "hidepid=2")
        become_nobody()
        return state(name)

    def holds() -> str:
        become_nobody()
        show()
        return lock_and_keep(name)

    with child(holds) as (_, said):
        assert heard(said) == "kept"
        assert result(asks) == "locked"

    def hides() -> str:
        become_nobody()
        return lock_and_keep(name)

    with child(hides) as (_, said):
        assert heard(said) == "kept"
        assert result(asks).startswith("PermissionError")


def test_the_owner_is_killed_while_others_open(name: str) -> None:
    """Whoever comes is told, or gets a lock of which all that live at the time have the same."""
    for _ in range(20):
        with child(lambda: lock_and_keep(name)) as (pid, said):
            assert heard(said) == "kept"

            def asks() -> str:
                lock = mh.Lock(name=name)
                keep(lock)
                try:
                    return "ours" if lock.acquire(timeout=20) else "never"
                except mh.OwnerDied:
                    return "told"

            with child(asks) as (_, one), child(asks) as (_, other):
                os.kill(pid, signal.SIGKILL)
                answers = sorted(os.read(each, 100).decode() for each in await_one(one, other))
                assert answers[0] in {"ours", "told"}, answers


def await_one(*readables: int) -> list[int]:
    import select

    ready, _, _ = select.select(readables, [], [], 30)
    assert ready, "nobody has the lock"
    # The other one waits for the first.
    return ready[:1]


def test_a_grandchild_keeps_a_name_alive(name: str) -> None:
    """Its parent and grandparent, which had it first, are dead."""
    readable, writable = os.pipe()

    def grandparent() -> str:
        event = mh.Event(name=name)
        event.set()
        keep(event)
        if os.fork() == 0:
            if os.fork() == 0:
                os.write(writable, str(os.getpid()).encode())
                signal.pause()
            os._exit(0)
        return "never mind"

    with child(grandparent):
        kept = int(os.read(readable, 100))
    try:
        assert mh.Event(name=name).is_set()
    finally:
        os.kill(kept, signal.SIGKILL)
        os.close(readable)
        os.close(writable)
    eventually(lambda: not mh.Event(name=name).is_set(), "it goes with the grandchild")


# Other users


@as_root
def test_another_user_who_has_keys_of_ours_blocks_nothing(name: str) -> None:
    """Whatever could be guessed: System V keys, and addresses of sockets."""
    import socket

    def key(user: int, number: int) -> int:
        value = 0x811C9DC5
        for byte in b"manyhands" + user.to_bytes(4, "little") + number.to_bytes(4, "little"):
            value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
        return ctypes.c_int32(value | 1).value

    victim = NOBODY + 1

    def squats(numbers: range) -> Callable[[], str]:
        def act() -> str:
            ids = [LIBC.shmget(key(victim, number), 1, 0o600 | 0o1000) for number in numbers]
            assert min(ids) >= 0, ids
            for segment in ids:
                assert LIBC.shmat(segment, None, 0) != -1
            fingerprint = 0xCBF29CE484222325
            for byte in name.encode():
                fingerprint = ((fingerprint ^ byte) * 0x100000001B3) & (1 << 64) - 1
            taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            taken.bind(f"\0manyhands:{victim}:{fingerprint:016x}")
            return keep((ids, taken))

        def as_other() -> str:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            try:
                return act()
            finally:
                keep([LIBC.shmget(key(victim, number), 1, 0) for number in numbers])

        return as_other

    def asks() -> str:
        os.setgid(victim)
        os.setuid(victim)
        lock = mh.Lock(name=name)
        assert lock.acquire(timeout=1)
        return state(name)

    for numbers, answer in (range(7), "locked"), (range(8), "OSError"):
        with child(squats(numbers)) as (_, said):
            assert heard(said) == "kept"
            begun = time.monotonic()
            assert result(asks).startswith(answer)
            assert time.monotonic() - begun < 5
        for number in numbers:
            segment = LIBC.shmget(key(victim, number), 0, 0)
            assert LIBC.shmctl(segment, 0, None) == 0, "IPC_RMID"


# Namespaces


@as_root
def test_nothing_is_taken_from_the_living_in_another_pid_namespace() -> None:
    lock, semaphore = mh.Lock(), mh.Semaphore(1)

    def holds() -> str:
        assert lock.acquire(timeout=1)
        assert semaphore.acquire(timeout=1)
        return f"as {os.getpid()}"

    def inner() -> str:
        # /proc is still that of the outer one.
        with child(holds) as (pid, said):
            assert heard(said) == f"as {pid}"
            assert not lock.acquire(timeout=0.6), "its owner lives"
            assert not semaphore.acquire(timeout=0.6), "its holder lives"
        try:
            lock.acquire(timeout=20)
        except mh.OwnerDied:
            lock.recover()
        else:
            return "nobody said that the owner died"
        lock.release()
        assert semaphore.acquire(timeout=20), "the permit came back"
        semaphore.release()
        return "all is well"

    def outer() -> str:
        assert LIBC.unshare(0x20000000) == 0, "CLONE_NEWPID"
        # Becomes process 1 there.
        return result(inner)

    assert result(outer) == "all is well"


@as_root
def test_an_owner_in_another_pid_namespace_lives_and_dies() -> None:
    lock = mh.Lock()

    def holds() -> str:
        assert os.getpid() == 1
        assert lock.acquire(timeout=1)
        return "held"

    def outer() -> str:
        assert LIBC.unshare(0x20000000) == 0, "CLONE_NEWPID"
        with child(holds) as (_, said):
            assert heard(said) == "held"
            # Process 1 here is another one.
            assert not lock.acquire(timeout=0.6)
        try:
            lock.acquire(timeout=20)
        except mh.OwnerDied:
            return "told"
        return "nobody said that the owner died"

    assert result(outer) == "told"


@as_root
def test_a_name_is_shared_with_an_inner_pid_namespace(name: str) -> None:
    def outer(ask: Callable[[], str]) -> Callable[[], str]:
        def act() -> str:
            assert LIBC.unshare(0x20000000) == 0, "CLONE_NEWPID"
            return result(ask)

        return act

    lock = mh.Lock(name=name)
    with lock:
        with child(lambda: "a process of the outer one") as (_, said):
            assert heard(said)
            assert result(outer(lambda: state(name))) == "locked"

    with child(outer(lambda: lock_and_keep(name + " inner"))) as (_, said):
        assert heard(said) == "kept"


def starts(file: Path) -> None:
    """Start a program, say its number, and wait for it, whatever it is asked."""
    with subprocess.Popen(["sleep", "60"]) as program:
        file.with_suffix(".new").write_text(str(program.pid))
        file.with_suffix(".new").rename(file)
        while program.poll() is None:
            with suppress(BaseException):
                program.wait()


def has_ended(program: int) -> bool:
    with suppress(ChildProcessError):
        # The first process of a namespace gets all orphans, unless somebody nearer wants them.
        return os.waitpid(program, os.WNOHANG)[0] == program
    with suppress(ProcessLookupError):
        os.kill(program, 0)
        return False
    return True


@as_root
def test_the_programs_of_a_task_are_found_in_a_pid_namespace(tmp_path: Path) -> None:
    """They are told to end with it, nobody else is, and the worker's memory is its own."""
    file = tmp_path / "pid"

    def inner() -> str:
        with mh.ProcessPoolExecutor(1) as pool:
            task = pool.submit(starts, file)
            eventually(file.exists, "the program runs")
            (worker,) = pool.statistics()["workers"]
            assert worker["rss_bytes"] > 5 << 20, worker
            assert task.cancel()
            program = int(file.read_text())
            eventually(lambda: has_ended(program), "it has ended")
            return str(pool.submit(abs, -1).result(30))

    def outer() -> str:
        assert LIBC.unshare(0x20000000) == 0, "CLONE_NEWPID"
        return result(inner)

    assert result(outer) == "1"


# Many


def test_the_last_of_many_names_costs_as_much_as_the_first(name: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(4000, hard - 1000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:

        def opens() -> str:
            def seconds(numbers: range) -> float:
                begun = time.process_time()
                KEPT.extend(mh.Event(name=f"{name} {number}") for number in numbers)
                return time.process_time() - begun

            first = min(seconds(range(start, start + 100)) for start in range(0, 300, 100))
            seconds(range(300, count - 300))
            last = (range(start, start + 100) for start in range(count - 300, count, 100))
            return f"{min(seconds(numbers) for numbers in last) / first}"

        def then() -> str:
            made = opens()
            again = result(lambda: reopened())
            return f"{made} {again}"

        def reopened() -> str:
            KEPT.clear()
            return opens()

        made, opened = (float(each) for each in result(then).split())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made < 4, "made"
    assert opened < 4, "opened where another process has them"
