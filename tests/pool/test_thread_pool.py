"""The executor whose workers are threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from concurrent.futures.thread import BrokenThreadPool
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def run_python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


# Calls


def test_results_and_exceptions(pool: mh.ThreadPoolExecutor) -> None:
    future = pool.submit(pow, 2, 10)
    assert isinstance(future, mh.Future)
    assert future.result() == 1024
    failing = pool.submit(divmod, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        failing.result()
    assert failing.exception() is caught.value


def test_every_keyword_is_the_functions(pool: mh.ThreadPoolExecutor) -> None:
    def everything(*args: object, **kwargs: object) -> object:
        return args, kwargs

    kwargs: dict[str, Any] = {"self": 1, "fn": 2, "timeout": 3, "options": 4}
    assert pool.submit(everything, 5, **kwargs).result() == ((5,), kwargs)
    view = pool.options(priority=1)
    assert view.submit(everything, 5, **kwargs).result() == ((5,), kwargs)
    with pytest.raises(TypeError, match="'fn'"):
        pool.submit(fn=everything)  # type: ignore[call-arg]


def test_what_cannot_be_called_fails_in_the_future(pool: mh.ThreadPoolExecutor) -> None:
    with pytest.raises(TypeError, match="not callable"):
        pool.submit(5).result()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -3}, ValueError),
        ({"max_workers": "2"}, TypeError),
        ({"initializer": 5}, TypeError),
        ({"finalizer": 5}, TypeError),
        ({"idle_timeout": -1}, ValueError),
        ({"idle_timeout": float("nan")}, ValueError),
    ],
)
def test_nonsense_is_refused(kwargs: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        mh.ThreadPoolExecutor(**kwargs)


def test_is_a_stdlib_executor() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(mh.ThreadPoolExecutor(1, thread_name_prefix="ours"))
        return await asyncio.to_thread(lambda: threading.current_thread().name)

    assert issubclass(mh.ThreadPoolExecutor, concurrent.futures.ThreadPoolExecutor)
    assert asyncio.run(main()) == "ours_0"


def test_await_run(pool: mh.ThreadPoolExecutor) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*[pool.run(pow, n, 2) for n in range(100)])

    assert asyncio.run(main()) == [n * n for n in range(100)]


def test_many_threads_submit_at_once(pool: mh.ThreadPoolExecutor) -> None:
    def submit() -> int:
        futures = [pool.submit(abs, -n) for n in range(2000)]
        return sum(future.result() for future in futures)

    with concurrent.futures.ThreadPoolExecutor(6) as others:
        sums = [others.submit(submit) for _ in range(6)]
        assert {each.result() for each in sums} == {sum(range(2000))}
    assert pool.statistics()["done"] == 12_000


# Context


def test_a_task_runs_in_a_copy_of_its_submitters_context(one: mh.ThreadPoolExecutor) -> None:
    def look() -> str:
        found = variable.get()
        variable.set("changed by a task")
        return found

    assert one.submit(look).result() == "nothing"
    token = variable.set("set by the submitter")
    try:
        assert one.submit(look).result() == "set by the submitter"
        assert variable.get() == "set by the submitter"
    finally:
        variable.reset(token)
    assert one.submit(look).result() == "nothing"


def test_what_a_task_used_is_let_go(one: mh.ThreadPoolExecutor) -> None:
    class Thing:
        def method(self) -> None:
            pass

    thing = Thing()
    dead = weakref.ref(thing)
    one.submit(thing.method).result()
    del thing
    # The future that has just ended is the last that the worker knew of.
    eventually(lambda: dead() is None, "the argument is let go")
    assert one.submit(Thing).result() is not None
    made = one.submit(Thing)
    dead = weakref.ref(made.result())
    del made

    def is_let_go() -> bool:
        # A free-threaded Python frees it in the thread that made it, when that has something to do.
        one.submit(str).result()
        return dead() is None

    eventually(is_let_go, "the result is let go")


def hold(something: object, done: object) -> None:
    """Return a callback that refers to something."""


@pytest.mark.parametrize("how", ["result", "attribute", "callback", "waiter"])
def test_a_cycle_through_a_future_is_collected(one: mh.ThreadPoolExecutor, how: str) -> None:
    with occupied(one):
        future: mh.Future[list[object]] = one.submit(list)
        dead = weakref.ref(future)
        if how == "attribute":
            future.itself = future  # type: ignore[attr-defined]
        elif how == "callback":
            future.add_done_callback(partial(hold, future))
            assert future.cancel()
        elif how == "waiter":
            waiter = concurrent.futures._base._Waiter()
            waiter.add_result(future)
            future._waiters.append(waiter)
            del waiter
    if how == "result":
        future.result().append(future)
    one.submit(int).result()
    del future
    gc.collect()
    assert dead() is None


# Order


@settings(deadline=None, max_examples=30)
@given(priorities=st.lists(st.integers(-3, 3), max_size=30))
def test_urgent_tasks_come_first_and_equals_in_order(priorities: list[int]) -> None:
    ran: list[tuple[int, int]] = []
    with mh.ThreadPoolExecutor(1) as executor:
        with occupied(executor):
            for number, priority in enumerate(priorities):
                task = (priority, number)
                executor.options(priority=priority).submit(ran.append, task)
    assert ran == sorted(ran, key=lambda task: (-task[0], task[1]))
    assert len(ran) == len(priorities)


@settings(deadline=None, max_examples=30)
@given(
    priorities=st.lists(st.integers(-1, 1), min_size=1, max_size=30),
    data=st.data(),
)
def test_what_is_cancelled_never_runs_and_all_else_does(
    priorities: list[int], data: st.DataObject
) -> None:
    ran: list[int] = []
    with mh.ThreadPoolExecutor(1) as executor:
        with occupied(executor):
            futures = [
                executor.options(priority=priority).submit(ran.append, number)
                for number, priority in enumerate(priorities)
            ]
            numbers = range(len(futures))
            cancelled = data.draw(st.sets(st.sampled_from(numbers)))
            for number in cancelled:
                assert futures[number].cancel()
                assert futures[number].cancel()
            assert executor.statistics()["queued"] == len(futures) - len(cancelled)
    assert sorted(ran) == sorted(set(numbers) - cancelled)
    for number in cancelled:
        with pytest.raises(CancelledError):
            futures[number].result()


def test_cancelling_lets_the_arguments_go_at_once(one: mh.ThreadPoolExecutor) -> None:
    class Thing:
        pass

    thing = Thing()
    dead = weakref.ref(thing)
    with occupied(one):
        future = one.submit(id, thing)
        del thing
        assert future.cancel()
        assert dead() is None


def test_those_in_wait_hear_of_a_cancelled_task_at_once(one: mh.ThreadPoolExecutor) -> None:
    with occupied(one):
        future = one.submit(int)
        future.cancel()
        # The worker is busy: nobody else could tell.
        assert concurrent.futures.wait([future]).done == {future}
        assert list(concurrent.futures.as_completed([future])) == [future]


# Workers


def test_initializer_and_finalizer_run_once_in_each_thread() -> None:
    local = threading.local()
    events: list[tuple[str, int]] = []

    def begin(value: str) -> None:
        local.value = value
        events.append(("begin", threading.get_ident()))

    def end() -> None:
        events.append(("end", threading.get_ident()))

    barrier = threading.Barrier(3)

    def task() -> str:
        barrier.wait()
        return str(local.value)

    with mh.ThreadPoolExecutor(3, "named", begin, ("ready",), finalizer=end) as executor:
        assert [each.result() for each in [executor.submit(task) for _ in range(3)]] == [
            "ready"
        ] * 3
        names = {thread.name for thread in executor._threads}
    assert names == {"named_0", "named_1", "named_2"}
    begun = [ident for event, ident in events if event == "begin"]
    ended = [ident for event, ident in events if event == "end"]
    assert len(set(begun)) == 3
    assert sorted(begun) == sorted(ended)


def test_a_failing_initializer_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    ready = threading.Barrier(3)

    def begin() -> None:
        ready.wait()
        raise OSError("no database")

    with mh.ThreadPoolExecutor(2, initializer=begin) as executor:
        futures = [executor.submit(int) for _ in range(5)]
        ready.wait()
        for future in futures:
            with pytest.raises(BrokenThreadPool, match="initializer failed"):
                future.result()
        with pytest.raises(BrokenThreadPool):
            executor.submit(int)
        assert executor._broken
    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [record.getMessage() for record in critical] == ["Exception in initializer:"]


def test_a_failing_finalizer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with mh.ThreadPoolExecutor(1, finalizer=lambda: 1 // 0) as executor:
        assert executor.submit(int).result() == 0
    assert [record.getMessage() for record in caplog.records] == ["Exception in finalizer:"]


def test_without_any_thread_submit_fails(
    one: mh.ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            one.submit(int)
    assert one.statistics()["queued"] == 0
    assert one.submit(int).result() == 0
    one.resize(2)
    with monkeypatch.context() as patch, occupied(one):
        # One thread there is: the task waits for it.
        patch.setattr(threading.Thread, "start", start)
        future = one.submit(int)
        assert not future.done()
    assert future.result() == 0


def test_resize(one: mh.ThreadPoolExecutor) -> None:
    barrier = threading.Barrier(4)
    futures = [one.submit(barrier.wait) for _ in range(3)]
    one.resize(3)
    assert one._max_workers == 3
    barrier.wait(timeout=20)
    for future in futures:
        future.result()
    one.resize(1)
    eventually(lambda: len(one.statistics()["workers"]) == 1, "two workers leave")
    with occupied(one):
        assert not one.submit(int).running()
    with pytest.raises(ValueError, match="greater than 0"):
        one.resize(0)


def test_idle_workers_leave_and_come_back() -> None:
    with mh.ThreadPoolExecutor(2, idle_timeout=0.02) as executor:
        for _ in range(3):
            assert executor.submit(int).result() == 0
            eventually(lambda: not executor._threads, "the idle worker leaves")
        assert executor.statistics()["done"] == 3


def test_statistics(one: mh.ThreadPoolExecutor) -> None:
    one.submit(int).result()
    with pytest.raises(ZeroDivisionError):
        one.submit(divmod, 1, 0).result()
    begun = threading.Event()
    go = threading.Event()

    def work() -> bool:
        begun.set()
        return go.wait()

    one.options(name="night shift").submit(work)
    assert begun.wait(timeout=20)
    one.submit(int)
    counts = one.statistics()
    [worker] = counts.pop("workers")
    assert counts == {
        "queued": 1,
        "running": 1,
        "done": 1,
        "failed": 1,
        "retried": 0,
        "cancelled": 0,
    }
    assert (worker["task"], worker["state"], worker["tasks_done"]) == ("night shift", "running", 2)
    assert worker["thread"].endswith("_0")
    assert worker["rss_bytes"] > 1_000_000
    assert worker["cpu_s"] >= 0
    go.set()
    eventually(lambda: one.statistics()["workers"][0]["state"] == "idle", "the worker is idle")
    assert one.statistics()["done"] == 3


def test_idle_workers_use_no_cpu(pool: mh.ThreadPoolExecutor) -> None:
    barrier = threading.Barrier(4)
    for future in [pool.submit(barrier.wait) for _ in range(4)]:
        future.result()
    before = sum(worker["cpu_s"] for worker in pool.statistics()["workers"])
    threading.Event().wait(0.5)
    used = sum(worker["cpu_s"] for worker in pool.statistics()["workers"]) - before
    assert used < 0.05


# The end


def test_after_shutdown(pool: mh.ThreadPoolExecutor) -> None:
    future = pool.submit(int)
    pool.shutdown()
    assert future.result() == 0
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        pool.submit(int)
    pool.shutdown()


def test_shutdown_can_cancel(one: mh.ThreadPoolExecutor) -> None:
    with occupied(one) as running:
        queued = [one.submit(int) for _ in range(3)]
        one.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in queued)
        assert not running.done()
    one.shutdown()
    assert running.result() is True


def test_a_forgotten_executor_finishes_its_work() -> None:
    executor = mh.ThreadPoolExecutor(1)
    begun = threading.Event()
    futures: list[mh.Future[Any]] = [executor.submit(begun.wait), executor.submit(int)]
    threads = list(executor._threads)
    del executor
    gc.collect()
    begun.set()
    assert [future.result() for future in futures] == [True, 0]
    for thread in threads:
        thread.join()


def test_at_exit_what_is_queued_is_still_done() -> None:
    done = run_python(
        "import time, manyhands as mh\n"
        "ex = mh.ThreadPoolExecutor(1)\n"
        "ex.options(timeout=30).submit(time.sleep, 0.1)\n"
        "ex.submit(print, 'done')\n"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_at_exit_nothing_new_is_taken() -> None:
    done = run_python(
        "import manyhands as mh\n"
        "ex = mh.ThreadPoolExecutor(1)\n"
        "def late():\n"
        "    while not ex._shutdown: mh.sleep(0.01)\n"
        "    try: ex.submit(int)\n"
        "    except RuntimeError as error: print(error)\n"
        "ex.submit(late)\n"
    )
    text = "cannot schedule new futures after interpreter shutdown\n"
    assert (done.stdout, done.stderr, done.returncode) == (text, "", 0)


def test_ctrl_c_ends_the_program_once_its_tasks_have_ended() -> None:
    done = run_python(
        "import os, signal, threading, manyhands as mh\n"
        "ex = mh.ThreadPoolExecutor(2)\n"
        "go = threading.Event()\n"
        "def strike():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    mh.sleep(0.3)\n"
        "    print('ended')\n"
        "future = ex.submit(strike)\n"
        "future.result()\n"
    )
    assert done.stdout == "ended\n"
    assert done.stderr.count("KeyboardInterrupt") == 1
    assert done.returncode == -2


FORK = """
import os, sys, threading, manyhands as mh
ex = mh.ThreadPoolExecutor(1)
begun, go = threading.Event(), threading.Event()
def hold():
    begun.set()
    return go.wait()
running, queued = ex.submit(hold), ex.submit(int)
timed = ex.options(timeout=50).submit(int)
begun.wait()
pid = os.fork()
if pid == 0:
    for future in (running, queued, timed):
        error = future.exception(timeout=20)
        assert type(error) is mh.ManyhandsError, error
        assert "forked" in str(error)
    assert ex.submit(pow, 2, 5).result(timeout=20) == 32
    assert ex.options(timeout=0.01).submit(mh.sleep, 99).exception(20).task == "sleep"
    while ex.statistics()["running"]:
        mh.sleep(0.001)
    print("child", flush=True)
    sys.exit(0)
_, status = os.waitpid(pid, 0)
go.set()
assert (running.result(), queued.result(), timed.result()) == (True, 0, 0)
print("parent", os.waitstatus_to_exitcode(status))
"""


def test_fork_leaves_parent_and_child_at_work() -> None:
    done = run_python(FORK, "-W", "ignore::DeprecationWarning")
    assert (done.stdout, done.stderr) == ("child\nparent 0\n", "")
    assert done.returncode == 0


def test_fork_in_a_task() -> None:
    done = run_python(
        "import os, manyhands as mh\n"
        "ex = mh.ThreadPoolExecutor(2)\n"
        "def task():\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        assert ex.submit(int).result(timeout=20) == 0\n"
        "        os._exit(7)\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "print(ex.submit(task).result())\n",
        "-W",
        "ignore::DeprecationWarning",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("7\n", "", 0)
