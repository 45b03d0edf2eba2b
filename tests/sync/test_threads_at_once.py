"""What threads do to one object at the same time: each operation is one step for all others.

On free-threaded builds they really run at the same time, so there is more of everything.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import operator
import subprocess
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually
from manyhands._interpreter.living import Living
from manyhands._memory import value as _value
from manyhands._pickle import variables
from manyhands._worker import hash_seed, settings
from manyhands._worker.interpreter import has_gil

THREADS = 8
ROUNDS = 500 if has_gil() else 3000
# Of what takes longer: each makes tasks, or a pool.
FEW_ROUNDS = ROUNDS // 10


def at_once(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Call ``work(k)`` in so many threads, which begin together; raise the first error."""
    gate = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            gate.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]


# --- locks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        mh.Lock,
        mh.RLock,
        mh.Condition,
        lambda: mh.Semaphore(1),
        lambda: mh.BoundedSemaphore(1),
        lambda: mh.Condition(mh.Lock()),
    ],
)
def test_one_at_a_time_has_a_lock(make: Callable[[], Any]) -> None:
    lock = make()
    count = [0]

    def work(_: int) -> None:
        for _ in range(ROUNDS):
            with lock:
                before = count[0]
                count[0] = before + 1

    at_once(work)
    assert count == [THREADS * ROUNDS]


def test_no_more_have_a_semaphore_than_it_has_permits() -> None:
    permits, inside, most = mh.Semaphore(3), deque[int](), []

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            with permits:
                inside.append(number)
                most.append(len(inside))
                inside.pop()

    at_once(work)
    assert max(most) <= 3
    assert permits.get_value() == 3


def test_an_event_wakes_all_in_each_round() -> None:
    events = [mh.Event() for _ in range(FEW_ROUNDS)]
    arrived = mh.Semaphore(0)

    def work(number: int) -> None:
        for event in events:
            if number == 0:
                for _ in range(THREADS - 1):
                    arrived.acquire()
                event.set()
            else:
                arrived.release()
                event.wait()

    at_once(work)
    assert all(event.is_set() for event in events)


def test_a_barrier_lets_all_through_in_each_round() -> None:
    barrier = mh.Barrier(THREADS)
    places: list[Counter[int]] = [Counter() for _ in range(FEW_ROUNDS)]
    lock = threading.Lock()

    def work(_: int) -> None:
        for counted in places:
            place = barrier.wait()
            with lock:
                counted[place] += 1

    at_once(work)
    assert places == [Counter(range(THREADS))] * FEW_ROUNDS


def test_a_condition_calls_those_who_wait() -> None:
    condition, items, taken = mh.Condition(), deque[int](), []

    def work(number: int) -> None:
        for each in range(FEW_ROUNDS):
            if number % 2:
                with condition:
                    items.append(number * FEW_ROUNDS + each)
                    condition.notify()
            else:
                with condition:
                    condition.wait_for(lambda: items)
                    taken.append(items.popleft())

    at_once(work)
    expected = [n * FEW_ROUNDS + k for n in range(1, THREADS, 2) for k in range(FEW_ROUNDS)]
    assert sorted(taken) == expected


def test_a_value_is_changed_with_its_lock() -> None:
    value, array = mh.Value("q", 0), mh.Array("q", THREADS)

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            with value.get_lock():
                value.value += 1
            with array.get_lock():
                array[number] += 1

    at_once(work)
    assert value.value == THREADS * ROUNDS
    assert list(array) == [ROUNDS] * THREADS


def test_a_name_means_one_thing_for_all_who_open_it_at_once(request: pytest.FixtureRequest) -> None:
    for each in range(FEW_ROUNDS):
        name = f"{request.node.name}-{each}-{id(request)}"
        opened: list[Any] = []
        at_once(lambda _, name=name, opened=opened: opened.append(mh.Lock(name=name)))  # type: ignore[misc]
        assert len({lock._key() for lock in opened}) == 1
        opened[0].acquire()
        assert all(lock.locked() for lock in opened)


# --- queues -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        mh.Queue,
        lambda: mh.Queue(1),
        lambda: mh.Queue(7),
        mh.SimpleQueue,
        mh.JoinableQueue,
        mh.LifoQueue,
        mh.PriorityQueue,
    ],
)
def test_each_item_is_taken_once(make: Callable[[], Any]) -> None:
    queue = make()
    taken: list[list[tuple[int, int]]] = [[] for _ in range(THREADS)]

    def work(number: int) -> None:
        for each in range(ROUNDS):
            if number % 2:
                queue.put((number, each))
            else:
                taken[number].append(queue.get())
                if isinstance(queue, mh.JoinableQueue):
                    queue.task_done()

    at_once(work)
    together = sorted(item for items in taken for item in items)
    assert together == [(n, each) for n in range(1, THREADS, 2) for each in range(ROUNDS)]
    assert queue.empty()
    if isinstance(queue, mh.JoinableQueue):
        queue.join()
    if type(queue) in (mh.Queue, mh.SimpleQueue, mh.JoinableQueue):
        for items in taken:
            for producer in range(1, THREADS, 2):
                # What one has put, another takes in that order.
                mine = [each for number, each in items if number == producer]
                assert mine == sorted(mine)


def test_each_message_of_a_pipe_is_received_once() -> None:
    receiving, sending = mh.Pipe(duplex=False)
    received: list[int] = []

    def work(number: int) -> None:
        for each in range(ROUNDS):
            if number % 2:
                sending.send(number * ROUNDS + each)
            else:
                received.append(receiving.recv())

    at_once(work)
    expected = [n * ROUNDS + each for n in range(1, THREADS, 2) for each in range(ROUNDS)]
    assert sorted(received) == expected
    receiving.close()
    sending.close()


@pytest.mark.on_each_python
def test_event_loops_of_several_threads_share_a_queue_and_a_lock() -> None:
    queue, lock, got, count = mh.Queue[int](), mh.Lock(), deque[int](), [0]

    async def main(number: int) -> None:
        for each in range(FEW_ROUNDS):
            if number % 2:
                await queue.async_put(number * FEW_ROUNDS + each)
            else:
                got.append(await queue.async_get())
            async with lock:
                before = count[0]
                count[0] = before + 1

    at_once(lambda number: asyncio.run(main(number)))
    assert len(set(got)) == len(got) == THREADS * FEW_ROUNDS // 2
    assert count == [THREADS * FEW_ROUNDS]


# --- executors and futures ----------------------------------------------------------------------


def fibonacci(pool: mh.ThreadPoolExecutor, n: int) -> int:
    if n < 2:
        return n
    one, other = pool.submit(fibonacci, pool, n - 1), pool.submit(fibonacci, pool, n - 2)
    return one.result() + other.result()


def test_a_pool_of_threads_serves_threads_that_resize_it() -> None:
    with mh.ThreadPoolExecutor(3) as pool:

        def work(number: int) -> None:
            for each in range(FEW_ROUNDS):
                futures = [pool.submit(operator.neg, n) for n in range(20)]
                cancelled = [future.cancel() for future in futures[number::7]]
                assert fibonacci(pool, 4) == 3
                for n, future in enumerate(futures):
                    assert future.cancelled() or future.result() == -n
                assert len(cancelled) >= sum(future.cancelled() for future in futures)
                pool.resize(1 + (number + each) % 5)
                repr(pool)
                pool.statistics()

        at_once(work)
        counts = pool.statistics()
        assert counts["queued"] == counts["running"] == 0


def test_a_queued_task_that_is_cancelled_leaves_the_queue() -> None:
    """Tasks are found by their number: the order in which threads queue them must not matter."""
    go = threading.Event()
    with mh.ThreadPoolExecutor(1) as pool:
        blocker = pool.submit(go.wait)
        eventually(blocker.running, "the worker is taken")
        futures: list[list[mh.Future[int]]] = [[] for _ in range(THREADS)]

        def work(number: int) -> None:
            futures[number] += [pool.submit(abs, each) for each in range(ROUNDS)]

        at_once(work)
        assert all(future.cancel() for mine in futures for future in mine)
        queued = pool.statistics()["queued"]
        go.set()
    assert queued == 0


def test_no_request_to_stop_is_lost() -> None:
    """A task that is asked at the very moment in which it begins, or begins again, is asked."""
    stopped = 0

    def task() -> None:
        mh.sleep(30)

    with mh.ThreadPoolExecutor(1) as pool:
        for _ in range(FEW_ROUNDS):
            future = pool.submit(task)
            while not future.running():
                pass
            future.cancel()
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(20)
            stopped += 1
    assert stopped == FEW_ROUNDS


def test_a_pool_of_processes_serves_threads() -> None:
    with mh.ProcessPoolExecutor(2) as pool:

        def work(number: int) -> None:
            for _ in range(FEW_ROUNDS):
                futures = [pool.submit(operator.neg, number + n) for n in range(5)]
                futures[number % 5].cancel()
                for n, future in enumerate(futures):
                    assert future.cancelled() or future.result() == -(number + n)
                pool.statistics()

        at_once(work)
        assert list(pool.map(abs, range(-100, 0), chunksize=7)) == list(range(100, 0, -1))


@pytest.mark.parametrize("workers", ["thread", "process", "auto"])
def test_maps_of_several_threads_share_a_pool(workers: Any) -> None:
    def work(number: int) -> None:
        for _ in range(max(3, FEW_ROUNDS // 30)):
            found = mh.map(operator.neg, range(number, 200), workers=workers)
            assert found == [-n for n in range(number, 200)]
            assert list(mh.imap(abs, range(50), workers=workers)) == list(range(50))

    at_once(work)
    if workers != "auto":
        mh.shared_pool(workers=workers).shutdown()


def test_a_future_is_shared_by_all_who_wait() -> None:
    with mh.ThreadPoolExecutor(2) as pool:
        for each in range(FEW_ROUNDS):
            go = threading.Event()
            future = pool.submit(go.wait)
            called: list[int] = []

            def work(
                number: int,
                future: mh.Future[bool] = future,
                go: threading.Event = go,
                called: list[int] = called,
                each: int = each,
            ) -> None:
                future.add_done_callback(lambda _: called.append(number))
                if number == each % THREADS:
                    go.set()
                if number % 2:
                    assert future.result() is True
                else:
                    assert concurrent.futures.wait([future]).done == {future}

            at_once(work)
            eventually(lambda called=called: len(called) == THREADS, "callbacks")  # type: ignore[misc]
            assert sorted(called) == list(range(THREADS))


@pytest.mark.on_each_python
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_results_are_freed_whoever_lets_go_of_them(kind: str) -> None:
    """On free-threaded Python an object is freed by the thread that made it: it must come by."""
    pool: Any = (mh.ThreadPoolExecutor if kind == "thread" else mh.ProcessPoolExecutor)(1)
    with pool:
        dead = []
        for _ in range(50):
            # A function written in C: no worker runs Python code for it.
            future = pool.submit(set, [1])
            # Not result(), which would take the result in where we are.
            eventually(future.done, "the result is there")
            dead.append(weakref.ref(future.result()))
            del future
        eventually(pool.submit(set).done, "another task is done")
        # The last one's maker may rest by now, which is CPython's way.
        eventually(lambda: all(each() is None for each in dead[:-2]), "results are freed", 10)


# --- what all use ---------------------------------------------------------------------------------


def test_what_lives_can_be_walked_through_while_more_comes() -> None:
    class Thing:
        pass

    known: Living[Thing] = Living()
    kept = [Thing() for _ in range(50)]
    for thing in kept:
        known.add(thing)

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            if number % 2:
                for thing in [Thing() for _ in range(10)]:
                    known.add(thing)
            else:
                seen = set(known)
                assert seen.issuperset(kept)

    at_once(work)
    del thing
    eventually(lambda: len(list(known)) == 50, "the others are forgotten")


@pytest.mark.on_each_python
def test_a_variable_has_one_home() -> None:
    """What threads pickle at the same time is one variable again where it comes to."""
    for _ in range(FEW_ROUNDS):
        variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
        homes: list[Any] = []

        def work(
            _: int,
            homes: list[Any] = homes,
            variable: contextvars.ContextVar[int] = variable,
        ) -> None:
            homes.append(variables.reduce_variable(variable)[1][0])

        at_once(work)
        assert len(set(homes)) == 1


@pytest.mark.parametrize("chosen", [hash_seed.chosen, settings._authkey])
def test_what_is_chosen_once_is_the_same_for_all(
    chosen: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.delitem(sys.modules, "multiprocessing.process", raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    for _ in range(FEW_ROUNDS):
        monkeypatch.setattr(hash_seed, "_chosen", {})
        monkeypatch.setattr(settings, "_chosen_key", {})
        seen: list[object] = []
        at_once(lambda _, seen=seen: seen.append(chosen()))  # type: ignore[misc]
        assert len(set(seen)) == 1


@pytest.mark.parametrize("kind", [ctypes.c_int, ctypes.c_long * 3])
def test_values_of_one_type_are_of_one_class(kind: Any) -> None:
    for _ in range(FEW_ROUNDS // 3):
        _value._placed_types.clear()
        made: list[type] = []
        at_once(lambda _, made=made: made.append(type(mh.Value(kind, lock=False))))  # type: ignore[misc]
        assert len(set(made)) == 1


FIRST_USE = """
import threading, manyhands as mh
gate = threading.Barrier(8)
lock = []
def work(number):
    gate.wait()
    with mh.Lock(): pass
    queue = mh.Queue(); queue.put(number); assert queue.get() == number
    assert mh.map(abs, [-number], workers="thread") == [number]
    with mh.ThreadPoolExecutor(1) as pool: assert pool.submit(abs, -1).result() == 1
    assert mh.shared_pool().submit(abs, -number).result() == number
    lock.append(number)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(lock) == 8, lock
"""


def test_all_may_use_it_first() -> None:
    for _ in range(3 if has_gil() else 10):
        subprocess.run([sys.executable, "-W", "error", "-c", FIRST_USE], check=True, timeout=50)


def test_the_gil_stays_off() -> None:
    if "t" not in sys.abiflags:
        pytest.skip("this build has a GIL")
    code = (
        "import sys, manyhands as mh, manyhands._native; mh.Lock(); mh.map(abs, [1]);"
        "sys.exit(sys._is_gil_enabled())"
    )
    environment = {"PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
