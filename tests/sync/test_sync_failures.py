"""What becomes of locks, semaphores, barriers and conditions when processes die or are stopped."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import eventually, let_go
from holders import (
    WAYS,
    asleep,
    call,
    hold,
    is_free,
    pass_without_waitv,
    running,
    stopped,
    waiting,
)

LOCKS: list[Callable[..., Any]] = [mh.Lock, mh.RLock]
SEMAPHORES: list[Callable[..., Any]] = [mh.Semaphore, mh.BoundedSemaphore]
# Longer than the longest slice of a wait, after which the owner is looked at again.
LONG_S = 0.5


def name_of(kind: Any) -> str:
    return str(kind.__name__)


def works(lock: Any) -> None:
    """Check that the lock is free, and does what a lock does."""
    for _ in range(2):
        assert lock.acquire(timeout=20) is True
        assert not is_free(lock)
        lock.release()
        assert is_free(lock)


def acquire(lock: Any) -> bool | mh.OwnerDied:
    """Return what acquire returns or raises."""
    try:
        return bool(lock.acquire())
    except mh.OwnerDied as error:
        return error


# The owner of a lock


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
@pytest.mark.parametrize("way", WAYS)
def test_who_waits_gets_the_lock_of_a_dead_owner(way: str, kind: Any, tmp_path: Path) -> None:
    lock = kind()
    with running(way, tmp_path, "owner", hold, lock) as owner:
        with ThreadPoolExecutor(1) as other:
            future = other.submit(acquire, lock)
            waiting(lock)
            owner.kill()
            error = future.result(20)
            assert isinstance(error, mh.OwnerDied)
            assert isinstance(error, mh.ManyhandsError)
            assert (error.pid, error.held) == (owner.pid, True)
            assert str(owner.pid) in str(error)
            assert not lock.acquire(False)
            other.submit(lock.recover).result()
            assert not lock.acquire(False)
            other.submit(lock.release).result()
        works(lock)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
@pytest.mark.parametrize("way", WAYS)
def test_who_comes_later_gets_the_lock_of_a_dead_owner(way: str, kind: Any, tmp_path: Path) -> None:
    lock = kind()
    with running(way, tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    with pytest.raises(mh.OwnerDied) as caught:
        lock.acquire()
    assert (caught.value.pid, caught.value.held) == (owner.pid, True)
    lock.recover()
    lock.release()
    works(lock)


@pytest.mark.parametrize("way", WAYS)
def test_a_lock_that_its_owner_has_twice(way: str, tmp_path: Path) -> None:
    lock = mh.RLock()
    with running(way, tmp_path, "owner", hold, lock, lock) as owner:
        owner.kill()
        with pytest.raises(mh.OwnerDied):
            lock.acquire()
    lock.recover()
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()
    works(lock)


@pytest.mark.parametrize("how", ["exit 0", "exit 1", "SIGTERM", "segfault"])
def test_any_death_counts(how: str, tmp_path: Path) -> None:
    lock = mh.Lock()
    with running("spawn", tmp_path, "owner", acquire_and_die, lock, how) as owner:
        error = acquire(lock)
    assert isinstance(error, mh.OwnerDied)
    assert error.pid == owner.pid
    lock.recover()
    lock.release()
    works(lock)


def acquire_and_die(folder: Path, name: str, lock: Any, how: str) -> None:
    lock.acquire()
    tasks.announce(folder, name)
    tasks.die(how)


def test_a_process_that_ends_without_releasing(tmp_path: Path) -> None:
    lock = mh.Lock()
    with running("spawn", tmp_path, "owner", call, lock.acquire) as owner:
        owner.ended_well()
    assert isinstance(acquire(lock), mh.OwnerDied)
    lock.recover()
    lock.release()
    works(lock)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_one_is_told_and_the_others_just_get_the_lock(kind: Any, tmp_path: Path) -> None:
    lock = kind()

    def work() -> bool:
        got = acquire(lock)
        if got is not True:
            lock.recover()
        lock.release()
        return got is True

    with running("fork", tmp_path, "owner", hold, lock) as owner, ThreadPoolExecutor(4) as others:
        futures = [others.submit(work) for _ in range(4)]
        waiting(lock, 4)
        owner.kill()
        assert sorted(future.result(20) for future in futures) == [False, True, True, True]
    works(lock)


def test_waiters_of_another_process_are_woken(tmp_path: Path) -> None:
    lock = mh.Lock(on_owner_died="acquire")
    with running("spawn", tmp_path, "owner", hold, lock) as owner:
        with running("spawn", tmp_path, "waiter", call, lock.acquire) as waiter:
            waiting(lock)
            owner.kill()
            waiter.ended_well()
    assert lock.acquire(timeout=20)
    lock.release()


def test_a_chain_of_deaths(tmp_path: Path) -> None:
    lock = mh.Lock(on_owner_died="acquire")
    for number in range(5):
        with running("fork", tmp_path, f"owner-{number}", hold, lock) as owner:
            owner.kill()
    assert lock.acquire() is True
    lock.release()
    works(lock)


@pytest.mark.on_each_python
def test_a_coroutine_is_told(tmp_path: Path) -> None:
    lock = mh.Lock()

    async def main() -> None:
        with running("fork", tmp_path, "owner", hold, lock) as owner:
            task = asyncio.create_task(lock.async_acquire())
            while not lock.statistics()["waiting"]:
                await asyncio.sleep(0.001)
            owner.kill()
            with pytest.raises(mh.OwnerDied):
                await asyncio.wait_for(task, 20)
        lock.recover()
        lock.release()

    asyncio.run(main())
    works(lock)


@pytest.mark.parametrize("blocking", [{"blocking": False}, {"timeout": 0.0}, {"timeout": 20.0}])
def test_a_try_is_told_as_well(blocking: dict[str, Any], tmp_path: Path) -> None:
    lock = mh.Lock()
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    with pytest.raises(mh.OwnerDied):
        lock.acquire(**blocking)
    lock.recover()
    lock.release()
    works(lock)


# What is done then


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_released_without_recover_it_is_poisoned(kind: Any, tmp_path: Path) -> None:
    lock = kind()
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    for number in range(3):
        with pytest.raises(mh.OwnerDied) as caught:
            lock.acquire()
        assert (caught.value.held, caught.value.pid) == (True, None if number else owner.pid)
        assert not is_free(lock)
        lock.release()
    with ThreadPoolExecutor(1) as other, pytest.raises(mh.OwnerDied):
        other.submit(lock.__enter__).result()
    with pytest.raises(RuntimeError):
        lock.release()
    assert lock.recover() is True
    works(lock)
    assert lock.recover() is False


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_with_block_that_is_not_entered_keeps_nothing(kind: Any, tmp_path: Path) -> None:
    lock = kind()
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    for _ in range(2):
        with pytest.raises(mh.OwnerDied) as caught, lock:
            pytest.fail("the block is not entered")
        assert caught.value.held is False
        with pytest.raises(RuntimeError):
            lock.release()
    lock.recover()
    works(lock)


def test_waiters_learn_that_the_lock_is_poisoned(tmp_path: Path) -> None:
    lock = mh.Lock()
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    assert isinstance(acquire(lock), mh.OwnerDied)

    def work() -> bool:
        got = acquire(lock)
        lock.release()
        return isinstance(got, mh.OwnerDied)

    with ThreadPoolExecutor(3) as others:
        futures = [others.submit(work) for _ in range(3)]
        waiting(lock, 3)
        lock.release()
        assert all(future.result(20) for future in futures)
    lock.recover()
    works(lock)


def test_who_was_told_and_dies_too(tmp_path: Path) -> None:
    lock = mh.Lock()
    with running("fork", tmp_path, "first", hold, lock) as first:
        first.kill()
    with running("fork", tmp_path, "second", take_over, lock) as second:
        second.kill()
    error = acquire(lock)
    assert isinstance(error, mh.OwnerDied)
    assert error.held
    assert error.pid == second.pid
    lock.recover()
    lock.release()
    works(lock)


def take_over(folder: Path, name: str, lock: Any) -> None:
    assert isinstance(acquire(lock), mh.OwnerDied)
    tasks.hold(folder, name)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_lock_can_be_taken_over_silently(kind: Any, tmp_path: Path) -> None:
    lock = kind(on_owner_died="acquire")
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    with lock:
        assert not is_free(lock)
    works(lock)


@pytest.mark.parametrize("kind", LOCKS, ids=name_of)
def test_a_function_puts_things_right(kind: Any, tmp_path: Path) -> None:
    told: list[tuple[int | None, bool]] = []

    def repair(error: mh.OwnerDied) -> None:
        told.append((error.pid, is_free(lock)))

    lock = kind(on_owner_died=repair)
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    with lock:
        assert told == [(owner.pid, False)]
    works(lock)
    assert len(told) == 1


def test_a_function_that_fails_leaves_the_lock_to_be_put_right(tmp_path: Path) -> None:
    def fail(error: mh.OwnerDied) -> None:
        raise KeyError("nothing to repair it with")

    lock = mh.Lock(on_owner_died=fail)
    with running("fork", tmp_path, "owner", hold, lock) as owner:
        owner.kill()
    with pytest.raises(KeyError):
        lock.acquire()
    assert not lock.locked()
    with pytest.raises(KeyError):
        lock.acquire()
    assert lock.recover()
    works(lock)


def test_what_to_do_travels_with_the_lock(tmp_path: Path) -> None:
    lock = mh.Lock(on_owner_died="acquire")
    assert pickle.loads(pickle.dumps(lock)).on_owner_died == "acquire"
    with pytest.raises(ValueError, match="on_owner_died"):
        mh.Lock(on_owner_died="ignore")  # type: ignore[arg-type]


def test_a_thread_that_ends_leaves_its_lock_locked() -> None:
    lock = mh.Lock()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert lock.acquire(timeout=LONG_S) is False
    lock.release()
    works(lock)


# Semaphores, barriers, conditions, events


@pytest.mark.parametrize("kind", SEMAPHORES, ids=name_of)
@pytest.mark.parametrize("way", WAYS)
def test_permits_of_a_dead_process_return(way: str, kind: Any, tmp_path: Path) -> None:
    permits = kind(3)
    permits.acquire()
    with running(way, tmp_path, "owner", hold, permits, permits) as owner:
        with ThreadPoolExecutor(1) as other:
            future = other.submit(permits.acquire)
            waiting(permits)
            owner.kill()
            assert future.result(20) is True
    assert permits.acquire(timeout=20)
    assert not permits.acquire(False)
    permits.release(3)
    assert permits.get_value() == 3
    if kind is mh.BoundedSemaphore:
        with pytest.raises(ValueError):
            permits.release()


def test_permits_of_many_dead_processes_return(tmp_path: Path) -> None:
    permits = mh.BoundedSemaphore(4)
    for number in range(4):
        with running("fork", tmp_path, f"owner-{number}", hold, permits, permits) as owner:
            owner.kill()
    assert [permits.acquire(False) for _ in range(5)] == [True] * 4 + [False]
    permits.release(4)


@pytest.mark.parametrize("way", WAYS)
def test_a_barrier_breaks_when_a_party_dies(way: str, tmp_path: Path) -> None:
    barrier = mh.Barrier(3)
    with running(way, tmp_path, "party", call, barrier.wait) as party:
        eventually(lambda: barrier.n_waiting == 1, "the party has come")
        with ThreadPoolExecutor(1) as other:
            future = other.submit(barrier.wait)
            eventually(lambda: barrier.n_waiting == 2, "two have come")
            party.kill()
            with pytest.raises(threading.BrokenBarrierError):
                future.result(20)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(20)
    barrier.reset()
    assert not barrier.broken
    with ThreadPoolExecutor(2) as others:
        futures = [others.submit(barrier.wait, 20) for _ in range(2)]
        numbers = [barrier.wait(20), *(future.result() for future in futures)]
    assert sorted(numbers) == [0, 1, 2]


def test_the_last_party_learns_that_another_has_died(tmp_path: Path) -> None:
    barrier = mh.Barrier(2)
    with running("fork", tmp_path, "party", call, barrier.wait) as party:
        eventually(lambda: barrier.n_waiting == 1, "the party has come")
        party.kill()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(20)


@pytest.mark.parametrize("way", WAYS)
def test_notify_reaches_one_that_lives(way: str, tmp_path: Path) -> None:
    condition = mh.Condition()
    with running(way, tmp_path, "dead", call, wait_on, condition) as dead:
        waiting(condition)
        with running(way, tmp_path, "alive", call, wait_on, condition) as alive:
            waiting(condition, 2)
            dead.kill()
            eventually(lambda: is_gone(dead.pid), "the first waiter is dead")
            with condition:
                condition.notify()
            alive.ended_well()


def wait_on(condition: Any) -> None:
    with condition:
        assert condition.wait(60)


def is_gone(pid: int) -> bool:
    """Whether a process is dead: gone, or what its parent has not yet collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while it is read
        return True


def test_a_condition_whose_lock_was_held_by_the_dead(tmp_path: Path) -> None:
    condition = mh.Condition()
    with ThreadPoolExecutor(1) as other:
        future = other.submit(wait_on, condition)
        waiting(condition)
        with running("fork", tmp_path, "owner", notify_and_stay, condition) as owner:
            owner.kill()
        # The waiter was notified by the dead, and comes back with the lock.
        with pytest.raises(mh.OwnerDied):
            future.result(20)


def test_a_condition_is_put_right_like_its_lock(tmp_path: Path) -> None:
    condition = mh.Condition()
    with running("fork", tmp_path, "owner", hold, condition) as owner:
        owner.kill()
    for _ in range(2):
        with pytest.raises(mh.OwnerDied), condition:
            pass
    with pytest.raises(mh.OwnerDied):
        condition.acquire()
    assert condition.recover() is True
    condition.notify_all()
    condition.release()
    with condition:
        assert condition.recover() is False


def test_a_condition_takes_its_lock_over_as_it_was_told(tmp_path: Path) -> None:
    condition = mh.Condition(on_owner_died="acquire")
    with running("fork", tmp_path, "owner", hold, condition) as owner:
        owner.kill()
    with condition:
        condition.notify()
    with pytest.raises(ValueError, match="pass it to Lock"):
        mh.Condition(mh.Lock(), on_owner_died="acquire")


def notify_and_stay(folder: Path, name: str, condition: Any) -> None:
    with condition:
        condition.notify()
        tasks.hold(folder, name)


@pytest.mark.parametrize("way", WAYS)
def test_an_event_needs_nothing_from_dead_waiters(way: str, tmp_path: Path) -> None:
    event = mh.Event()
    with running(way, tmp_path, "waiter", call, event.wait) as waiter:
        waiting(event)
        waiter.kill()
    event.set()
    assert event.is_set()
    event.clear()
    with ThreadPoolExecutor(1) as other:
        future = other.submit(event.wait)
        waiting(event)
        event.set()
        assert future.result(20) is True


# Stopped is not dead


# Every kind once, and a lock in every way: each run takes its time.
@pytest.mark.parametrize(
    ("way", "kind"),
    [*(("fork", kind) for kind in [*LOCKS, *SEMAPHORES]), *((way, mh.Lock) for way in WAYS[1:])],
)
def test_a_stopped_owner_is_not_robbed(way: str, kind: Any, tmp_path: Path) -> None:
    lock = kind()
    with running(way, tmp_path, "owner", hold, lock) as owner:
        owner.send(signal.SIGSTOP)
        stopped(owner.pid)
        assert lock.acquire(timeout=LONG_S) is False
        let_go(tmp_path)
        owner.send(signal.SIGCONT)
        assert lock.acquire(timeout=20) is True
        owner.ended_well()
    lock.release()
    works(lock)


def test_a_stopped_party_does_not_break_the_barrier(tmp_path: Path) -> None:
    barrier = mh.Barrier(2)
    with running("fork", tmp_path, "party", call, barrier.wait) as party:
        eventually(lambda: barrier.n_waiting == 1, "the party has come")
        party.send(signal.SIGSTOP)
        stopped(party.pid)
        assert barrier.wait(20) == 1
        party.send(signal.SIGCONT)
        party.ended_well()
    assert not barrier.broken


def test_a_stopped_waiter_holds_nobody_up(tmp_path: Path) -> None:
    lock = mh.Lock()
    lock.acquire()
    with running("fork", tmp_path, "waiter", call, lock.acquire) as waiter:
        waiting(lock)
        asleep(waiter.pid)
        waiter.send(signal.SIGSTOP)
        stopped(waiter.pid)
        lock.release()
        works(lock)
        waiter.send(signal.SIGCONT)
        waiter.ended_well()


# Misuse: the standard library's errors, and nothing is changed by it


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: mh.Semaphore(-1), ValueError),
        (lambda: mh.BoundedSemaphore(-1), ValueError),
        (lambda: mh.Semaphore("many"), TypeError),  # type: ignore[arg-type]
        (lambda: mh.Barrier(0), ValueError),
        (lambda: mh.Barrier(-1), ValueError),
        (lambda: mh.Barrier("all"), TypeError),  # type: ignore[arg-type]
        (lambda: mh.Condition(mh.Lock(), name="test-both"), ValueError),
    ],
)
def test_what_cannot_be_made(make: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


@pytest.mark.parametrize("way", WAYS)
def test_only_its_owner_releases_an_rlock(way: str, tmp_path: Path) -> None:
    lock = mh.RLock()
    with running(way, tmp_path, "owner", hold, lock) as owner:
        with pytest.raises(RuntimeError):
            lock.release()
        assert not lock.acquire(False)
        let_go(tmp_path)
        owner.ended_well()
    works(lock)


@pytest.mark.parametrize("way", WAYS)
def test_a_bounded_semaphore_is_bounded_for_all(way: str, tmp_path: Path) -> None:
    permits = mh.BoundedSemaphore(2)
    with running(way, tmp_path, "owner", hold, permits) as owner:
        for count in (2, 3):
            with pytest.raises(ValueError):
                permits.release(count)
        assert permits.get_value() == 1
        let_go(tmp_path)
        owner.ended_well()
    with pytest.raises(ValueError):
        permits.release()
    assert permits.get_value() == 2


def test_a_condition_needs_its_lock() -> None:
    condition = mh.Condition()
    for misused in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="un-acquired"):
            misused()
    with condition, ThreadPoolExecutor(1) as other:
        with pytest.raises(RuntimeError, match="un-acquired"):
            other.submit(condition.notify).result()
        condition.notify()


# Without futex_waitv


@pytest.mark.timeout(240)
@pytest.mark.skipif("MANYHANDS_NO_WAITV" in os.environ, reason="this is the run without it")
def test_all_of_this_without_futex_waitv() -> None:
    pass_without_waitv(__file__, timeout_s=220)
