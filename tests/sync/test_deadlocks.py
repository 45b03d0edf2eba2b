"""Threads and processes that wait for each other in a circle: one is told, the others go on."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import eventually
from holders import Holder, hold, is_free, running, waiting

LOCKS: list[Callable[..., Any]] = [mh.Lock, mh.RLock]
# Which thread waits for which: the first for the second, ..., the last for the first.
CIRCLES = {
    "two threads": ("thread", "thread"),
    "five threads": ("thread",) * 5,
    "two forked processes": ("fork", "fork"),
    "two spawned processes": ("spawn", "spawn"),
    "two processes of the forkserver": ("forkserver", "forkserver"),
    "two workers": ("worker", "worker"),
    "a thread and a process": ("thread", "fork"),
    "one of each": ("thread", "fork", "spawn", "worker"),
}
if "MANYHANDS_NO_WAITV" in os.environ:
    # What kind of thread is in the circle makes no difference to how it waits.
    CIRCLES = {name: ways for name, ways in CIRCLES.items() if set(ways) <= {"thread", "fork"}}
# How processes are started that have nothing in common but names.
APART = ("fork",) if "MANYHANDS_NO_WAITV" in os.environ else ("fork", "spawn")
# In this time one of them must be told. A busy machine may need more at times, not always.
LIMIT_S = 0.2
TRIES = 10


def name_of(kind: Any) -> str:
    return str(kind.__name__)


@dataclass
class Outcome:
    """How a member of a circle fared; times are of the one clock that all processes have."""

    pid: int
    thread: int
    began: float
    ended: float
    error: mh.DeadlockError | None


def cross(folder: Path, name: str, number: int, locks: list[Any]) -> None:
    """Acquire the lock of this number and, when all have theirs, the next; report the outcome."""
    cross_from(folder, name, locks[number], locks[(number + 1) % len(locks)], len(locks))


def cross_from(folder: Path, name: str, own: Any, following: Any, count: int) -> None:
    """Acquire the own lock and, when as many have theirs, the following; report the outcome."""
    with own:
        tasks.announce(folder, name)
        eventually(lambda: len(list(folder.glob("*.pid"))) == count, "each has its lock")
        error = None
        began = time.monotonic()
        try:
            with following:
                ended = time.monotonic()
        except mh.DeadlockError as caught:
            ended = time.monotonic()
            error = caught
    thread = threading.get_native_id()
    draft = folder / f"{name}.draft"
    draft.write_bytes(pickle.dumps(Outcome(os.getpid(), thread, began, ended, error)))
    draft.rename(folder / f"{name}.outcome")


def opened(kind: Any, lock: Any) -> Any:
    """Return the lock, or the one that has this name."""
    return kind(name=lock) if isinstance(lock, str) else lock


def cross_apart(folder: Path, name: str, kind: Any, own: Any, following: Any, count: int) -> None:
    """Like `cross_from`, in a process that has opened these two locks and no others."""
    own, following = opened(kind, own), opened(kind, following)
    before = segments_here()
    cross_from(folder, name, own, following, count)
    assert segments_here() == before


def segments_here() -> tuple[list[str], list[str]]:
    """Return what this process has open, and mapped, of what processes share."""
    files = []
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            files.append(os.readlink(file))
    maps = Path("/proc/self/maps").read_text().splitlines()
    mark = "/memfd:manyhands:"
    return sorted(file for file in files if mark in file), [line for line in maps if mark in line]


@contextmanager
def members(ways: tuple[str, ...], folder: Path, locks: list[Any]) -> Iterator[None]:
    """Have them form a circle; wait for their end."""
    threads = ways.count("thread")
    with ThreadPoolExecutor(max(threads, 1)) as executor, ExitStack() as processes:
        futures = []
        # Threads come last: until then, this process may fork.
        for way in ("fork", "forkserver", "spawn", "worker", "thread"):
            for number in (each for each, other in enumerate(ways) if other == way):
                arguments = (folder, f"member-{number}", cross, number, locks)
                if way == "thread":
                    futures.append(
                        executor.submit(cross, folder, f"member-{number}", number, locks)
                    )
                else:
                    holder: Holder = processes.enter_context(running(way, *arguments))
                    processes.callback(holder.ended_well)
        yield
        for future in futures:
            future.result(30)


def circle(ways: tuple[str, ...], folder: Path, locks: list[Any]) -> list[Outcome]:
    """Return what became of the members."""
    folder.mkdir()
    files = [folder / f"member-{number}.outcome" for number in range(len(ways))]
    with members(ways, folder, locks):
        eventually(lambda: all(file.exists() for file in files), "all have gone on")
    return [pickle.loads(file.read_bytes()) for file in files]


def check_that_one_was_told(outcomes: list[Outcome]) -> None:
    errors = [each.error for each in outcomes if each.error is not None]
    assert len(errors) == 1
    (error,) = errors
    assert isinstance(error, mh.ManyhandsError)
    assert isinstance(error, RuntimeError)
    # The circle, from the one that was told on.
    told = next(number for number, each in enumerate(outcomes) if each.error is not None)
    around = outcomes[told:] + outcomes[:told]
    assert [member.pid for member in error.members] == [each.pid for each in around]
    assert [member.thread for member in error.members] == [each.thread for each in around]
    for member in error.members:
        assert "cross" in member.stack
        assert "with following:" in member.stack
        for what in (str(member.pid), str(member.thread), member.lock):
            assert what in str(error)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
@pytest.mark.parametrize("ways", CIRCLES.values(), ids=CIRCLES)
def test_one_is_told_of_a_circle(ways: tuple[str, ...], kind: Any, tmp_path: Path) -> None:
    locks = [kind() for _ in ways]
    outcomes = circle(ways, tmp_path / "circle", locks)
    check_that_one_was_told(outcomes)
    for lock in locks:
        assert lock.acquire(timeout=20)
        lock.release()


def check_that_it_is_soon(make: Callable[[Path], list[Outcome]], folder: Path) -> None:
    """Have circles made in new folders until one of them is noticed in time."""
    times = []
    for number in range(TRIES):
        outcomes = make(folder / str(number))
        closed = max(each.began for each in outcomes)
        times += [each.ended - closed for each in outcomes if each.error is not None]
        if times[-1] < LIMIT_S:
            break
    assert min(times) < LIMIT_S


@pytest.mark.parametrize("ways", [("thread", "thread"), ("fork", "fork"), ("thread", "fork")])
def test_it_is_told_soon(ways: tuple[str, ...], tmp_path: Path) -> None:
    check_that_it_is_soon(lambda folder: circle(ways, folder, [mh.Lock(), mh.Lock()]), tmp_path)


# Of processes that know only some of the locks


def apart(way: str, folder: Path, kind: Any, locks: list[Any]) -> list[Outcome]:
    """Return what became of processes in a circle, each with its own lock and the next one's."""
    folder.mkdir()
    count = len(locks)
    files = [folder / f"member-{number}.outcome" for number in range(count)]
    with ExitStack() as processes:
        for number in range(count):
            pair = (locks[number], locks[(number + 1) % count])
            holder = running(way, folder, f"member-{number}", cross_apart, kind, *pair, count)
            processes.callback(processes.enter_context(holder).ended_well)
        eventually(lambda: all(file.exists() for file in files), "all have gone on")
    return [pickle.loads(file.read_bytes()) for file in files]


def names_of(count: int, folder: Path) -> list[str]:
    """Names that nobody else uses."""
    return [f"test-deadlocks-{os.getpid()}-{folder.name}-{number}" for number in range(count)]


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("way", APART)
def test_nobody_needs_to_know_all_locks(way: str, count: int, kind: Any, tmp_path: Path) -> None:
    names = names_of(count, tmp_path)
    outcomes = apart(way, tmp_path / "circle", kind, names)
    check_that_one_was_told(outcomes)
    (error,) = (each.error for each in outcomes if each.error is not None)
    assert all(name in str(error) for name in names)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
@pytest.mark.parametrize("way", APART)
def test_locks_with_and_without_names(way: str, kind: Any, tmp_path: Path) -> None:
    locks = [*names_of(2, tmp_path), kind()]
    check_that_one_was_told(apart(way, tmp_path / "circle", kind, locks))


@pytest.mark.parametrize("count", [3, 5])
def test_who_does_not_know_all_locks_is_told_soon(count: int, tmp_path: Path) -> None:
    check_that_it_is_soon(
        lambda folder: apart("fork", folder, mh.Lock, names_of(count, folder)), tmp_path
    )


def abandonable(name: str) -> mh.Lock:
    return mh.Lock(name=name, on_owner_died="acquire")


def test_a_member_is_killed_while_others_look(tmp_path: Path) -> None:
    for number in range(TRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        names = names_of(3, folder)
        with ExitStack() as processes:
            holders: list[Holder] = []
            for member in range(3):
                pair = (names[member], names[(member + 1) % 3])
                arguments = (folder, f"member-{member}", cross_apart, abandonable, *pair, 3)
                holders.append(processes.enter_context(running("fork", *arguments)))
            # From before the first look to after the last: the others may have been told by then.
            threading.Event().wait(0.007 * number)
            holders[0].kill()
            for holder in holders[1:]:
                holder.ended_well()
        outcomes = [pickle.loads(file.read_bytes()) for file in folder.glob("*.outcome")]
        assert len(outcomes) >= 2
        assert sum(each.error is not None for each in outcomes) <= 1


def test_the_error_names_named_locks(tmp_path: Path) -> None:
    names = ["test-deadlock-knife", "test-deadlock-fork"]
    locks = [mh.Lock(name=name) for name in names]
    outcomes = circle(("thread", "fork"), tmp_path / "circle", locks)
    (error,) = (each.error for each in outcomes if each.error is not None)
    for name in names:
        assert any(name in member.lock for member in error.members)
        assert name in str(error)


@pytest.mark.parametrize(("kind", "certain"), [(mh.Lock, False), (mh.RLock, True)])
def test_the_error_says_how_certain_it_is(kind: Any, certain: bool, tmp_path: Path) -> None:
    outcomes = circle(("thread", "thread"), tmp_path / "circle", [kind(), kind()])
    (error,) = (each.error for each in outcomes if each.error is not None)
    assert ("probably" in str(error)) is not certain


def test_the_error_has_names_of_threads_and_no_bootstrap(tmp_path: Path) -> None:
    outcomes = circle(("thread", "spawn"), tmp_path / "circle", [mh.RLock(), mh.RLock()])
    (error,) = (each.error for each in outcomes if each.error is not None)
    text = str(error)
    assert text.count("(MainThread)") == 2  # of the process: as the one that waits and that has
    assert text.count("(ThreadPoolExecutor-") == 2
    for member in error.members:
        lines = [line for line in member.stack.splitlines() if "File" in line]
        assert "in cross_from" in lines[-1]
        for part in ("threading.py", "multiprocessing/", "concurrent/futures/"):
            assert part not in member.stack


def test_the_error_travels_well() -> None:
    member = mh.DeadlockMember(1, 2, "a lock", "a stack")
    error = mh.DeadlockError("around", (member,))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.members) == (mh.DeadlockError, "around", (member,))


# No deadlocks


def test_who_waits_for_a_time_only_is_not_told(tmp_path: Path) -> None:
    first, second = mh.Lock(), mh.Lock()
    with first, ThreadPoolExecutor(1) as other:
        other.submit(second.acquire).result()
        future = other.submit(first.acquire)
        waiting(first)
        assert second.acquire(timeout=0.5) is False
        first.release()
        assert future.result(20) is True
        first.release()
        second.release()
        first.acquire()


def test_a_chain_without_an_end_is_no_circle(tmp_path: Path) -> None:
    first, second = mh.Lock(), mh.Lock()
    with running("fork", tmp_path, "owner", hold, first), ThreadPoolExecutor(2) as others:
        both = others.submit(hold, tmp_path, "waits-for-first", second, first)
        waiting(first)
        one = others.submit(hold, tmp_path, "waits-for-second", second)
        waiting(second)
        # Much longer than it takes to look at who waits for whom.
        assert not threading.Event().wait(0.5)
        assert not both.done()
        assert not one.done()
        (tmp_path / "go").touch()
        both.result(20)
        one.result(20)


def in_order(locks: list[Any], rounds: int) -> int:
    """Acquire all locks, one after the other, and keep them for a while."""
    for _ in range(rounds):
        with ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            time.sleep(0.01)
    return rounds


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_long_waits_in_order_are_no_circle(kind: Any) -> None:
    locks = [kind() for _ in range(3)]
    with mh.ProcessPoolExecutor(2) as workers, ThreadPoolExecutor(3) as threads:
        futures: list[Any] = [threads.submit(in_order, locks, 8) for _ in range(3)]
        futures += [workers.submit(in_order, locks, 8) for _ in range(2)]
        assert [future.result(40) for future in futures] == [8] * 5


def test_waiting_on_a_condition_is_no_circle() -> None:
    condition, other = mh.Condition(), mh.Lock()

    def wait() -> bool:
        with other, condition:
            return condition.wait(20)

    def notify() -> None:
        with condition:
            condition.notify()

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(wait)
        waiting(condition)
        assert other.acquire(timeout=0.3) is False
        notify()
        assert future.result(20) is True


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_who_waits_on_a_condition_comes_back_with_its_lock(kind: Any) -> None:
    """The other one of the circle is told, whoever began to wait last."""
    lock, other = kind(), mh.Lock()
    condition = mh.Condition(lock)

    def wait() -> bool:
        with other, condition:
            assert condition.wait(20)
            return is_free(lock)

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(wait)
        waiting(condition)
        with lock:
            condition.notify()
            with pytest.raises(mh.DeadlockError):
                other.acquire()
        assert future.result(20) is False
    assert is_free(lock)
    assert is_free(other)


@pytest.mark.timeout(240)
@pytest.mark.skipif("MANYHANDS_NO_WAITV" in os.environ, reason="this is the run without it")
def test_all_of_this_without_futex_waitv() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "MANYHANDS_NO_WAITV": "1"},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-10_000:]
