"""Tasks in threads: cancelled while they run, timed, tried again, waiting for one another."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import partial

import pytest

import manyhands as mh
from eventually import eventually
from occupied import occupied

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@pytest.fixture
def pool() -> Iterator[mh.ThreadPoolExecutor]:
    with mh.ThreadPoolExecutor(max_workers=4) as executor:
        yield executor


@pytest.fixture
def one() -> Iterator[mh.ThreadPoolExecutor]:
    with mh.ThreadPoolExecutor(max_workers=1) as executor:
        yield executor


# Cancelling what runs


def test_a_task_in_a_sleep_of_ours_is_ended(one: mh.ThreadPoolExecutor) -> None:
    ended: list[BaseException] = []

    def task(begun: threading.Event) -> None:
        begun.set()
        try:
            mh.sleep(1000)
        except mh.TaskCancelled as error:
            ended.append(error)
            raise

    for attempt in range(1, 1000):
        begun = threading.Event()
        future = one.submit(task, begun)
        assert begun.wait(timeout=20)
        # False if the task does not sleep yet: then it is merely asked to stop, which it does.
        certain = future.cancel()
        assert future.cancelled() or not certain
        with pytest.raises(CancelledError):
            future.result()
        assert one.submit(int).result() == 0
        assert len(ended) == attempt
        if certain:
            break
    else:
        pytest.fail("never caught asleep")


def test_a_task_that_waits_for_another_is_ended(pool: mh.ThreadPoolExecutor) -> None:
    with occupied(pool) as endless:
        future = pool.submit(lambda: endless.result())
        eventually(future.running, "the task runs")
        # Whether it waits already or is only asked to stop, it ends.
        eventually(future.cancel, "the task can be ended")
        assert future.cancelled()
        assert not endless.done()


def test_a_task_that_computes_is_asked_to_stop(one: mh.ThreadPoolExecutor) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        go_on.wait()
        mh.check_cancelled()

    future = one.submit(task)
    assert begun.wait(timeout=20)
    assert not future.cancel()
    assert future.running()
    go_on.set()
    with pytest.raises(CancelledError):
        future.result()
    assert future.cancelled()


def test_a_task_that_does_not_listen_keeps_its_result(one: mh.ThreadPoolExecutor) -> None:
    with occupied(one) as future:
        assert not future.cancel()
    assert future.result() is True
    assert not future.cancelled()


def test_only_the_task_that_was_asked_stops(one: mh.ThreadPoolExecutor) -> None:
    with occupied(one) as future:
        future.cancel()
    future.result()
    one.submit(mh.check_cancelled).result()
    one.submit(mh.sleep, 0).result()


def test_without_a_task_nothing_is_cancelled() -> None:
    mh.check_cancelled()
    mh.sleep(0)
    with pytest.raises(ValueError, match="non-negative"):
        mh.sleep(-1)


# Timeouts and retries


def test_a_task_that_takes_too_long_fails_and_is_asked_to_stop(
    one: mh.ThreadPoolExecutor,
) -> None:
    stopped: list[bool] = []

    def task() -> str:
        try:
            mh.sleep(1000)
        except mh.TaskCancelled:
            stopped.append(True)
        return "too late"

    # Long enough for it to begin, however busy the machine.
    future = one.options(timeout=0.5, name="slowpoke").submit(task)
    with pytest.raises(mh.TaskTimeout, match=r"slowpoke.* 0\.5 s") as caught:
        future.result()
    assert (caught.value.task, caught.value.timeout) == ("slowpoke", 0.5)
    assert isinstance(caught.value, TimeoutError)
    assert one.submit(int).result() == 0
    assert stopped == [True]
    assert one.statistics()["failed"] == 1


def test_a_task_that_cannot_be_stopped_fails_in_time_all_the_same(
    pool: mh.ThreadPoolExecutor,
) -> None:
    go = threading.Event()
    future = pool.options(timeout=0.02).submit(go.wait)
    with pytest.raises(mh.TaskTimeout):
        future.result()
    assert pool.statistics()["running"] == 1
    go.set()
    eventually(lambda: pool.statistics()["running"] == 0, "the task ends")
    with pytest.raises(mh.TaskTimeout):
        future.result()


def test_waiting_in_the_queue_does_not_count(one: mh.ThreadPoolExecutor) -> None:
    with occupied(one):
        future = one.options(timeout=1).submit(int)
        with pytest.raises(TimeoutError):
            future.result(1.2)
        assert not future.done()
    assert future.result() == 0


def noted(ended: list[float], seconds: float, future: object) -> None:
    ended.append(seconds)


def test_timeouts_end_in_their_own_order(pool: mh.ThreadPoolExecutor) -> None:
    ended: list[float] = []
    futures = []
    # So far apart that it makes no difference which thread gets a turn first.
    for seconds in (1.7, 0.1, 0.9):
        future = pool.options(timeout=seconds).submit(mh.sleep, 1000)
        future.add_done_callback(partial(noted, ended, seconds))
        futures.append(future)
    for future in futures:
        assert isinstance(future.exception(), mh.TaskTimeout)
    # Whoever waits for a future may go on before its callbacks have been called.
    eventually(lambda: len(ended) == 3, "the callbacks are called")
    assert ended == [0.1, 0.9, 1.7]


def failing(times: int, error: BaseException) -> tuple[Callable[[], int], list[int]]:
    """Return a function that raises so many times before it returns, and the attempts it saw."""
    attempts: list[int] = []

    def task() -> int:
        attempts.append(len(attempts))
        if len(attempts) <= times:
            raise error
        return len(attempts)

    return task, attempts


def test_retries(one: mh.ThreadPoolExecutor) -> None:
    task, attempts = failing(2, ValueError("again"))
    assert one.options(retries=2).submit(task).result() == 3
    assert attempts == [0, 1, 2]
    task, attempts = failing(5, ValueError("again"))
    with pytest.raises(ValueError, match="again"):
        one.options(retries=2).submit(task).result()
    assert len(attempts) == 3
    counts = one.statistics()
    assert (counts["done"], counts["failed"], counts["retried"]) == (1, 1, 4)


def test_only_what_is_named_is_retried(one: mh.ThreadPoolExecutor) -> None:
    task, _ = failing(1, KeyError("k"))
    with pytest.raises(KeyError):
        one.options(retries=3, retry_on=(OSError, ValueError)).submit(task).result()
    task, _ = failing(1, KeyError("k"))
    assert one.options(retries=3, retry_on=LookupError).submit(task).result() == 2
    task, _ = failing(1, SystemExit())
    with pytest.raises(SystemExit):
        one.options(retries=3).submit(task).result()


def test_each_attempt_has_its_own_context(one: mh.ThreadPoolExecutor) -> None:
    found: list[str] = []

    def task() -> None:
        found.append(variable.get())
        variable.set("left by an attempt")
        if len(found) < 3:
            raise ValueError

    one.options(retries=5).submit(task).result()
    assert found == ["nothing"] * 3


def test_an_attempt_that_took_too_long_is_followed_by_another(
    one: mh.ThreadPoolExecutor,
) -> None:
    attempts: list[int] = []

    def task() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            mh.sleep(1000)
        return "done"

    # Long enough for the second attempt, however busy the machine.
    assert one.options(timeout=1, retries=1).submit(task).result() == "done"
    assert len(attempts) == 2
    assert one.statistics()["retried"] == 1
    future = one.options(timeout=0.02, retries=2).submit(mh.sleep, 1000)
    with pytest.raises(mh.TaskTimeout):
        future.result()


def test_a_queued_retry_can_be_cancelled(one: mh.ThreadPoolExecutor) -> None:
    go = threading.Event()
    future = one.options(timeout=0.02, retries=1).submit(go.wait)
    eventually(lambda: one.statistics()["queued"] == 1, "the next attempt is queued")
    assert future.cancel()
    go.set()
    with pytest.raises(CancelledError):
        future.result()
    assert one.submit(int).result() == 0


# Tasks that wait for tasks


def test_a_pool_does_not_wait_for_itself(one: mh.ThreadPoolExecutor) -> None:
    def nested(depth: int) -> int:
        return 0 if depth == 0 else 1 + one.submit(nested, depth - 1).result()

    assert one.submit(nested, 100).result(timeout=50) == 100


@pytest.mark.parametrize("how", ["timeout", "wait", "as_completed", "exception"])
def test_however_it_waits(one: mh.ThreadPoolExecutor, how: str) -> None:
    def parent() -> list[int]:
        children = [one.submit(pow, n, 2) for n in range(5)]
        if how == "wait":
            return sorted(each.result() for each in mh.wait(children).done)
        if how == "as_completed":
            return sorted(each.result() for each in mh.as_completed(children))
        if how == "exception":
            return [each.result() for each in children if each.exception() is None]
        return [each.result(timeout=40) for each in children]

    assert one.submit(parent).result(timeout=50) == [0, 1, 4, 9, 16]
    # The thread that was lent has gone, or goes when it has nothing to do.
    with occupied(one):
        assert not one.submit(int).running()


def test_maps_within_tasks(pool: mh.ThreadPoolExecutor) -> None:
    def row(n: int) -> list[int]:
        return list(pool.map(pow, range(n), [2] * n))

    rows = list(pool.map(row, range(12)))
    assert rows == [[n * n for n in range(size)] for size in range(12)]


def test_a_task_that_is_helped_can_be_stopped_alone(one: mh.ThreadPoolExecutor) -> None:
    begun = threading.Event()

    def child() -> None:
        begun.set()
        mh.sleep(1000)

    def parent() -> str:
        helped = one.submit(child)
        children.append(helped)
        try:
            helped.result()
        except CancelledError:
            return "child cancelled"
        return "child ended"

    children: list[mh.Future[None]] = []
    future = one.submit(parent)
    assert begun.wait(timeout=20)
    eventually(children[0].cancel, "the child can be ended")
    assert future.result() == "child cancelled"


@pytest.mark.slow
def test_a_storm_of_everything() -> None:
    """Submits, cancels, nests, fails and resizes from several threads for a while."""
    end = time.monotonic() + 3

    def branch(n: int) -> int:
        if n <= 1:
            return 1
        left, right = executor.submit(branch, n - 1), executor.submit(branch, n - 2)
        return left.result() + right.result()

    def hammer(seed: int) -> int:
        count = 0
        while time.monotonic() < end:
            futures = [executor.submit(abs, -n) for n in range(50)]
            for future in futures[seed::7]:
                future.cancel()
            failed = executor.options(retries=1).submit(divmod, 1, 0)
            assert executor.submit(branch, 5).result() == 8
            assert all(future.cancelled() or future.result() >= 0 for future in futures)
            assert isinstance(failed.exception(), ZeroDivisionError)
            executor.resize(1 + (count + seed) % 5)
            count += 1
        return count

    with mh.ThreadPoolExecutor(3) as executor:
        with concurrent.futures.ThreadPoolExecutor(4) as others:
            counts = [others.submit(hammer, seed) for seed in range(4)]
            assert all(each.result() for each in counts)
    assert executor.statistics()["queued"] == 0
