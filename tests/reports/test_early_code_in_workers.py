"""Code of the user's that runs early in a worker and opens the parent's shared memory.

Found by use: an initializer that kept a Lock had the worker's number freed and given out again.
Pools hung in `shutdown`, and innocent tasks failed with WorkerDied.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manyhands as mh

KEPT: dict[str, Any] = {
    "Lock": mh.Lock,
    "Event": mh.Event,
    "Value": lambda: mh.Value("i", 7),
    "Queue": mh.Queue,
    "share": lambda: mh.share(np.arange(100_000)),
}


def meet(barrier: mh.Barrier) -> int:
    barrier.wait()
    return os.getpid()


def check_pool(pool: mh.ProcessPoolExecutor) -> None:
    """See two workers that work at the same time, and of which one's death is one failed task."""
    barrier = mh.Barrier(2)
    both = [pool.submit(meet, barrier) for _ in range(2)]
    assert len({each.result() for each in both}) == 2
    go = mh.Event()
    lives = pool.submit(go.wait)
    assert isinstance(pool.submit(os._exit, 3).exception(), mh.WorkerDied)
    assert pool.submit(pow, 2, 5).result() == 32
    go.set()
    assert lives.result() is True


ALIKE = "which number a worker has is decided in Rust, whatever it keeps"


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.once(ALIKE) if kind != "Lock" else ()) for kind in KEPT],
)
def test_an_initializer_keeps_an_object_of_the_parent(kind: str) -> None:
    kept = KEPT[kind]()
    initargs = (threading.Thread, "kept_for_a_test", kept)
    with mh.ProcessPoolExecutor(2, initializer=setattr, initargs=initargs) as pool:
        assert pool.submit(abs, -1).result() == 1  # the first worker is there before the second
        check_pool(pool)


def test_a_preloaded_module_opens_an_object_of_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = mh.Lock()
    monkeypatch.setenv("EARLY_LOCK", pickle.dumps(lock).hex())
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "opens_a_lock.py").write_text(
        "import os, pickle\nlock = pickle.loads(bytes.fromhex(os.environ['EARLY_LOCK']))\n"
    )
    with mh.ProcessPoolExecutor(2, preload=["opens_a_lock"]) as pool:
        check_pool(pool)
        with lock:
            taken = pool.submit(acquire_early)
            assert taken.result() is False
        assert pool.submit(acquire_early).result() is True


def acquire_early() -> bool:
    import opens_a_lock  # type: ignore[import-not-found]

    taken: bool = opens_a_lock.lock.acquire(timeout=0.01)
    if taken:
        opens_a_lock.lock.release()
    return taken


def test_pools_of_one_program_share_no_number() -> None:
    lock = mh.Lock()
    initargs = (threading.Thread, "kept_for_a_test", lock)
    with (
        mh.ProcessPoolExecutor(2, initializer=setattr, initargs=initargs) as first,
        mh.ProcessPoolExecutor(2, initializer=setattr, initargs=initargs) as second,
    ):
        assert first.submit(abs, -1).result() == second.submit(abs, -1).result() == 1
        check_pool(first)
        check_pool(second)


SHADOWED = """
import functools, linecache, traceback, types
import sys, time
import manyhands as mh

sys.path.insert(0, sys.argv[1])
workers = int(sys.argv[2])
with mh.ProcessPoolExecutor(workers) as pool:
    # Neither lists nor errors go without modules that a worker does not import at its start.
    sums = [pool.submit(sum, [n, part]) for part in (1, time.sleep) for n in range(workers)]
    for each in sums:
        error = each.exception()
        print(type(error).__name__, "cut short" in str(error and error.__cause__))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_files_called_like_standard_modules_do_not_take_their_place(
    workers: int, tmp_path: Path
) -> None:
    for name in ("copyreg", "functools", "keyword", "linecache", "traceback", "types"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the program')")
    # A program of its own: what this one has imported, by value, say, a zygote imports as well.
    told = subprocess.run(
        [sys.executable, "-c", SHADOWED, str(tmp_path), str(workers)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert told.stdout == "NoneType False\n" * workers + "TypeError False\n" * workers, told.stderr
