"""Whoever uses a lock or a queue does not pay for asyncio, nor for the stdlib's processes.

Importing these takes longer than importing all that a lock needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import manyhands as mh

HEAVY = {
    "asyncio",
    "concurrent.futures",
    "ctypes",
    "inspect",
    "logging",
    "multiprocessing",
    "numpy",
    "socket",
    "subprocess",
    "tempfile",
}


def imported(code: str) -> set[str]:
    """Return what `code` imports in an interpreter that has done nothing else."""
    program = (
        "import sys\nbefore = set(sys.modules)\n"
        f"import manyhands as mh\n{code}\nprint(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "use",
    [
        "with mh.Lock(): pass",
        "with mh.Lock(name='test-imports'): pass",
        "with mh.RLock(): pass",
        "with mh.Semaphore(): pass",
        "with mh.BoundedSemaphore(): pass",
        "mh.Event().wait(0)",
        "condition = mh.Condition()\nwith condition: condition.wait_for(lambda: True)",
        "mh.Barrier(1).wait()",
        "queue = mh.Queue(); queue.put([1]); queue.get()",
        "queue = mh.JoinableQueue(); queue.join()",
        "queue = mh.SimpleQueue(); queue.put_many([1, 2]); queue.get_many(2)",
        "queue = mh.LifoQueue(); queue.put('text'); queue.get()",
        "queue = mh.PriorityQueue(); queue.put((1, None)); queue.get()",
        "one, other = mh.Pipe(); one.send(1); other.recv_bytes(); other.send_bytes(b'1')",
        "mh.open_fifo",
    ],
)
def test_what_is_shared_is_light(use: str) -> None:
    assert not imported(use) & {*HEAVY, "typing"}


@pytest.mark.parametrize(
    "error", ["ManyhandsError", "OwnerDied", "DeadlockError", "ReleaseError", "ShutDown"]
)
def test_so_are_its_errors(error: str) -> None:
    assert not imported(f"mh.{error}") & HEAVY


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        ("mh.Lock().release()", "mh.ReleaseError"),
        ("queue = mh.Queue(); queue.shutdown(); queue.get()", "mh.ShutDown"),
        ("mh.Queue().get(False)", "__import__('queue').Empty"),
        ("mh.Barrier(2).wait(0)", "__import__('threading').BrokenBarrierError"),
    ],
)
def test_and_so_is_raising_them(mistake: str, error: str) -> None:
    attempt = f"try: {mistake}\nexcept {error}: pass\nelse: raise SystemExit('not raised')"
    assert not imported(attempt) & HEAVY


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("WorkerDied", {"concurrent.futures"}),
        ("ProcessPoolExecutor", {"concurrent.futures", "typing"}),
        ("DeadlockError", {"typing"}),
        ("ShutDown", {"queue"}),
    ],
)
def test_the_look_sees_what_is_imported(name: str, needs: set[str]) -> None:
    assert imported(f"mh.{name}") >= needs


def test_a_pool_of_processes_needs_no_other_one() -> None:
    use = "with mh.ProcessPoolExecutor(1) as pool: assert pool.submit(len, 'two').result() == 3"
    needless = {"asyncio", "cloudpickle", "multiprocessing", "pathlib", "subprocess", "tempfile"}
    needless |= {"dataclasses", "html", "inspect", "manyhands._task.stream", "random", "shutil"}
    # From CPython 3.14 on, the standard library's own futures bring dataclasses and inspect.
    assert not (imported(use) - imported("import concurrent.futures")) & needless


def test_what_goes_by_value_needs_no_ctypes() -> None:
    look = "lambda: 'ctypes' in __import__('sys').modules"
    use = f"with mh.ProcessPoolExecutor(1) as pool: assert not pool.submit({look}).result()"
    assert "ctypes" not in imported(use)


def test_a_worker_runs_its_first_task_without_what_costs_its_start() -> None:
    names = ("_pickle", "collections", "enum", "functools", "re", "signal", "threading", "typing")
    look = f"[name for name in {names} if name in __import__('sys').modules]"
    use = f"with mh.ProcessPoolExecutor(1) as pool: assert not pool.submit(eval, {look!r}).result()"
    imported(use)


def test_later_workers_have_from_the_zygote_what_the_first_one_did_without(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    with mh.ProcessPoolExecutor(2) as pool:
        first = pool.submit(eval, f"open({gate!r}).read()")
        second = pool.submit(eval, "'manyhands._pickle.pickling' in __import__('sys').modules")
        try:
            assert second.result(60)
        finally:
            with open(gate, "w") as opened:
                opened.write("open")
        assert first.result(60) == "open"
