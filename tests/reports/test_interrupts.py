"""Ctrl-C ends running tasks as a cancellation does: asked first, killed after the grace.

Found by use: leaving a ``with`` block by KeyboardInterrupt killed what was running at once, so
that a task's ``finally`` never ran and what it had begun was never rolled back.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import os, signal, sys, threading, time
from pathlib import Path
import manyhands as mh

here = Path(sys.argv[1])

def task(name, seconds=0.0):
    try:
        (here / f"{name}.begun").touch()
        time.sleep(60)
    finally:
        time.sleep(seconds)
        (here / f"{name}.cleaned").touch()

def stubborn(name):
    while True:
        try:
            (here / f"{name}.begun").touch()
            time.sleep(60)
        except BaseException:
            pass

def press_ctrl_c_after(*names):
    def press():
        while not all((here / f"{name}.begun").exists() for name in names):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=press)
    thread.start()
    return thread
"""

BLOCKS = {
    "an executor, while it waits for a result": """
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(task, name) for name in ("a", "b")]
    press_ctrl_c_after("a", "b")
    futures[0].result()
""",
    "an executor, at the end of the block": """
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(task, name) for name in ("a", "b")]
    press_ctrl_c_after("a", "b")
""",
    "an executor with tasks that wait": """
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(task, name) for name in ("a", "b")]
    press_ctrl_c_after("a", "b")
    for n in range(3000):
        pool.submit(Path.touch, here / "never")
    futures[0].result()
""",
    "a task that cleans up for long": """
with mh.ProcessPoolExecutor(2, grace=30) as pool:
    futures = [pool.submit(task, name, 1.5) for name in ("a", "b")]
    press_ctrl_c_after("a", "b")
    futures[0].result()
""",
    "tasks with retries": """
with mh.ProcessPoolExecutor(2) as pool:
    again = pool.options(retries=3, retry_on=BaseException, timeout=50)
    futures = [again.submit(task, name) for name in ("a", "b")]
    press_ctrl_c_after("a", "b")
    futures[0].result()
""",
    "a Pool": """
with mh.Pool(2) as pool:
    press_ctrl_c_after("a", "b")
    pool.map(task, ["a", "b"], chunksize=1)
""",
    "a map of an executor": """
with mh.ProcessPoolExecutor(2) as pool:
    press_ctrl_c_after("a", "b")
    list(pool.map(task, ["a", "b"]))
""",
    "mh.map": """
press_ctrl_c_after("a", "b")
mh.map(task, ["a", "b"], workers="process", max_workers=2)
""",
    "the end of the program": """
pool = mh.ProcessPoolExecutor(2)
futures = [pool.submit(task, name) for name in ("a", "b")]
press_ctrl_c_after("a", "b")
futures[0].result()
""",
}


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEGIN + program, str(folder)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize("what", BLOCKS)
def test_tasks_clean_up(what: str, tmp_path: Path) -> None:
    done = run(BLOCKS[what], tmp_path)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
    assert (tmp_path / "a.cleaned").exists()
    assert (tmp_path / "b.cleaned").exists()
    assert not (tmp_path / "never").exists(), "a task began after the interrupt"


def test_a_task_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    program = """
with mh.ProcessPoolExecutor(2, grace=0.3, finalizer=lambda: time.sleep(600)) as pool:
    future = pool.submit(stubborn, "a")
    other = pool.submit(task, "b")
    press_ctrl_c_after("a", "b")
    try:
        future.result()
    except KeyboardInterrupt:
        pressed = time.monotonic()
        raise
"""
    done = run(f"try:\n{_indented(program)}\nfinally:\n    print(future.cancelled())", tmp_path)
    assert done.stdout == "True\n", done.stderr
    assert (tmp_path / "b.cleaned").exists()
    assert not (tmp_path / "a.cleaned").exists()


def test_whoever_presses_twice_does_not_wait(tmp_path: Path) -> None:
    program = """
def press_again_and_again():
    while True:
        if (here / "a.begun").exists():
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

with mh.ProcessPoolExecutor(1, grace=600) as pool:
    future = pool.submit(stubborn, "a")
    threading.Thread(target=press_again_and_again, daemon=True).start()
    future.result()
"""
    done = run(program, tmp_path)
    assert "KeyboardInterrupt" in done.stderr, done.stderr


def test_threads_are_asked(tmp_path: Path) -> None:
    program = """
def wait():
    (here / "a.begun").touch()
    try:
        mh.sleep(600)
    finally:
        (here / "a.cleaned").touch()

with mh.ThreadPoolExecutor(1) as pool:
    future = pool.submit(wait)
    others = [pool.submit(time.sleep, 600) for _ in range(3)]
    press_ctrl_c_after("a")
    future.result()
"""
    done = run(program, tmp_path)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
    assert (tmp_path / "a.cleaned").exists()


def test_a_task_that_is_cancelled_before_it_begins_is_not_begun(tmp_path: Path) -> None:
    # The signal comes while the function is being loaded, where nobody may be interrupted.
    (tmp_path / "slow_to_import.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "here = Path(__file__).parent\n"
        "(here / 'loading').touch()\n"
        "while not (here / 'go').exists(): time.sleep(0.002)\n"
        "def begin(): (here / 'begun').touch(); time.sleep(60)\n"
    )
    program = """
(here / "go").touch()
sys.path.insert(0, str(here))
import slow_to_import
(here / "go").unlink()
(here / "loading").unlink()
with mh.ProcessPoolExecutor(1, grace=600) as pool:
    future = pool.submit(slow_to_import.begin)
    while not (here / "loading").exists(): time.sleep(0.002)
    assert future.cancel()
    worker = pool.statistics()["workers"][0]["pid"]
    (here / "go").touch()
    assert pool.submit(os.getpid).result() == worker
"""
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "begun").exists()


def _indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.splitlines())
