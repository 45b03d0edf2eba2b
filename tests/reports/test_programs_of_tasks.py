"""What becomes of the programs that a task has started, when the task is cancelled or timed out.

Reports: noxdafox/pebble#62 and kevoreilly/CAPEv2#1654 (programs run on after a time-out),
noxdafox/pebble#76 (they become orphans). Whose they are depends on how the task ends: by itself,
within its grace, or with its worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from eventually import begun, eventually, is_running


def command(folder: str) -> list[str]:
    """Yield a program that says which process it is, and stays."""
    return [
        "sh",
        "-c",
        f"echo $$ > '{folder}/new'; mv '{folder}/new' '{folder}/task.pid'; exec sleep 300",
    ]


def runs(folder: str) -> None:
    subprocess.run(command(folder), check=False)


def cleans_up(folder: str) -> None:
    program = subprocess.Popen(command(folder))
    try:
        program.wait()
    finally:
        program.kill()
        program.wait()


def waits_to_the_end(folder: str) -> None:
    with subprocess.Popen(command(folder)) as program:
        program.wait()


def walks_away(folder: str) -> None:
    subprocess.Popen(command(folder)).wait()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    if (tmp_path / "task.pid").exists():
        try:
            os.kill(begun(tmp_path), signal.SIGKILL)
        except ProcessLookupError:
            pass


def is_ended(task: Callable[[str], None], folder: Path, timeout: float | None, grace: float) -> int:
    """Have a task ended that has a program at work; return the program's process id."""
    with mh.ProcessPoolExecutor(1, grace=grace) as pool:
        future = pool.options(timeout=timeout).submit(task, str(folder))
        program = begun(folder)
        assert is_running(program)
        if timeout is None:
            assert future.cancel()
        else:
            with pytest.raises(mh.TaskTimeout):
                future.result()
        assert pool.submit(abs, -1).result() == 1
    return program


@pytest.mark.parametrize("timeout", [None, 1.0])
@pytest.mark.parametrize(
    ("task", "grace"), [(runs, 30.0), (cleans_up, 30.0), (waits_to_the_end, 0.3)]
)
def test_programs_end_with_tasks_that_see_to_it_and_with_killed_workers(
    task: Any, grace: float, timeout: float | None, folder: Path
) -> None:
    program = is_ended(task, folder, timeout, grace)
    eventually(lambda: not is_running(program), "the program ends")


def test_what_a_task_leaves_within_its_grace_goes_on(folder: Path) -> None:
    program = is_ended(walks_away, folder, None, 30.0)
    time.sleep(0.3)
    assert is_running(program), "docs/task/cancelling.md says that nobody ends it"
