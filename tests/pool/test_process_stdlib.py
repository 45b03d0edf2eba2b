"""What programs written for `concurrent.futures.ProcessPoolExecutor` rely on, beyond its manual.

CPython's own tests run in test_conformance.py; these are of what they cannot say of our classes,
because they look for it in inner parts that only the standard library has.
"""

from __future__ import annotations

import gc
import multiprocessing
import queue
import signal
import subprocess
import sys
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import begun, eventually, let_go

# The resource tracker and the heap of multiprocessing stay for good once they are needed: they come
# now, not in the middle of a test.
KEPT: Any = multiprocessing.get_context("spawn").Value("i", 0)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


# Looking at the workers


def test_the_workers_can_be_looked_at(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=3) as executor:
        assert executor._processes == {}
        futures = [executor.submit(tasks.hold, tmp_path, str(n)) for n in range(8)]
        workers = executor._processes
        assert len(workers) == 3
        assert all(worker.is_alive() and worker.exitcode is None for worker in workers.values())
        let_go(tmp_path)
        assert {future.result() for future in futures} <= set(workers)
        assert set(executor._processes) == set(workers) == {each.pid for each in workers.values()}
    for worker in workers.values():
        worker.join()
        assert (worker.is_alive(), worker.exitcode) == (False, 0)
    assert executor._processes == {}


@pytest.mark.parametrize("way", ["terminate", "kill"])
def test_a_worker_can_be_ended(way: str, tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        future = executor.submit(tasks.hold, tmp_path)
        worker = executor._processes[begun(tmp_path)]
        worker.join(timeout=0.0)
        assert worker.is_alive()
        getattr(worker, way)()
        with pytest.raises(mh.WorkerDied):
            future.result()
        worker.join()
        number = signal.SIGTERM if way == "terminate" else signal.SIGKILL
        assert (worker.is_alive(), worker.exitcode) == (False, -number)
        getattr(worker, way)()  # to one that is gone it does nothing
        assert executor.submit(tasks.square, 3).result() == 9
        assert worker.pid not in executor._processes


def test_workers_of_a_terminated_pool_were_killed(tmp_path: Path) -> None:
    executor = mh.ProcessPoolExecutor(max_workers=1)
    executor.submit(tasks.hold, tmp_path)
    worker = executor._processes[begun(tmp_path)]
    executor.terminate()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert "stopped" in repr(worker)


def test_a_worker_is_replaced_in_every_context() -> None:
    # The standard library refuses max_tasks_per_child with the context "fork".
    for method in multiprocessing.get_all_start_methods():
        context: Any = multiprocessing.get_context(method)
        with mh.ProcessPoolExecutor(1, context, max_tasks_per_child=2) as executor:
            pids = [executor.submit(tasks.pid).result() for _ in range(4)]
            assert pids[0] == pids[1] != pids[2] == pids[3]
            assert len(executor._processes) <= 1


# Ends


def test_workers_end_after_a_shutdown_that_does_not_wait() -> None:
    executor = mh.ProcessPoolExecutor(max_workers=2)
    results = executor.map(abs, range(-5, 5))
    workers = executor._processes
    executor.shutdown(wait=False)
    for worker in workers.values():
        worker.join()
    assert list(results) == [abs(n) for n in range(-5, 5)]


def test_workers_end_when_nobody_keeps_the_executor() -> None:
    executor = mh.ProcessPoolExecutor(max_workers=2)
    gone = weakref.ref(executor)
    results = executor.map(abs, range(-5, 5))
    workers = executor._processes
    del executor
    gc.collect()
    assert gone() is None
    for worker in workers.values():
        worker.join()
    assert list(results) == [abs(n) for n in range(-5, 5)]


def test_a_program_that_ends_after_a_shutdown_without_waiting() -> None:
    done = run(
        "import manyhands as mh, time\n"
        "executor = mh.ProcessPoolExecutor(2)\n"
        "executor.submit(lambda: (time.sleep(0.2), print('done')))\n"
        "executor.shutdown(wait=False)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_pool_that_has_ended_keeps_no_descriptor_of_others() -> None:
    # The tracker ends when the last copy of its pipe is closed: one in a pool that is only kept,
    # but has ended, would have this wait forever.
    done = run(
        "import manyhands as mh, multiprocessing as mp\n"
        "from multiprocessing.resource_tracker import _resource_tracker as tracker\n"
        "lock = mp.get_context('spawn').Lock()\n"
        "executor = mh.ProcessPoolExecutor(1, initializer=str, initargs=(lock,))\n"
        "executor.submit(abs, -1).result()\n"
        "executor.shutdown()\n"
        "del lock, executor._initargs\n"
        "tracker._stop()\n"
        "print('stopped')\n"
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


# What multiprocessing makes


@pytest.mark.parametrize("method", ["spawn", "forkserver", None])
def test_counters_and_locks_in_initargs(method: str | None) -> None:
    context: Any = multiprocessing.get_context(method) if method else None
    if context is None:
        with mh.ProcessPoolExecutor() as executor:
            context = executor._mp_context
    counter = context.Value("i", 0)
    with mh.ProcessPoolExecutor(
        2, context, initializer=tasks.keep_counter, initargs=(counter,)
    ) as executor:
        futures = [executor.submit(tasks.count_one_up) for _ in range(50)]
        for future in futures:
            future.result()
    assert counter.value == 50


def test_a_lock_of_the_fork_context_is_refused_in_words() -> None:
    lock = multiprocessing.get_context("fork").Lock()
    with mh.ProcessPoolExecutor(1, initializer=str, initargs=(lock,)) as executor:
        with pytest.raises(RuntimeError, match="only those made by the 'spawn'"):
            executor.submit(abs, -1)


def test_what_a_failing_initializer_has_put_into_a_queue_is_there() -> None:
    log: Any = multiprocessing.get_context("spawn").Queue()
    with mh.ProcessPoolExecutor(1, initializer=tasks.fail_into_queue, initargs=(log,)) as executor:
        assert executor._broken is False
        future = executor.submit(tasks.square, 1)
        assert isinstance(future.exception(), BrokenProcessPool)
        assert "not today" in str(executor._broken)
        try:
            record = log.get_nowait()
        except queue.Empty:
            pytest.fail("the future failed before the queue was sent off")
        assert "not today" in record.getMessage()
    log.close()
    log.join_thread()


# Causes


def test_the_cause_carries_the_traceback_under_the_name_of_the_standard_library() -> None:
    with mh.ProcessPoolExecutor(1) as executor:
        error: Any = executor.submit(tasks.fail, ValueError("here")).exception()
    assert "in fail" in error.__cause__.tb


def test_the_workers_are_soon_seen(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=4) as executor:
        executor.submit(tasks.square, 1).result()
        assert len(executor._processes) == 1
        futures = [executor.submit(tasks.hold, tmp_path, str(n)) for n in range(2)]
        assert len(executor._processes) == 2
        let_go(tmp_path)
        eventually(lambda: all(future.done() for future in futures), "the tasks end")
