"""Python inside another program: its workers need a Python of their own.

Reports: loky#207, joblib#827 and pgadmin4#707 (uWSGI); loky#236 and Nuitka#2035 (frozen programs,
which started themselves again). `sys.executable` is that program, or nothing at all.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORKS = """
import manyhands as mh
with mh.ProcessPoolExecutor(1) as pool:
    print(pool.submit(pow, 2, 5).result())
"""
REFUSED = """
import manyhands as mh
with mh.ProcessPoolExecutor(1) as pool:
    try:
        pool.submit(pow, 2, 5)
    except Exception as error:
        print(type(error).__name__, error)
"""


def run(before: str, program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{before}\n{program}"],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("executable", [None, "", "/bin/cat"])
def test_the_interpreter_that_was_installed_with_it(executable: str | None) -> None:
    assert run(f"sys.executable = {executable!r}", WORKS) == "32\n"


def test_the_interpreter_that_the_program_names(tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\nexport NAMED=yes\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    names = f"""
import multiprocessing, os
sys.frozen, sys.executable = True, "/bin/cat"
multiprocessing.set_executable({str(wrapper)!r})
"""
    told = "print(mh.ProcessPoolExecutor(1).submit(os.getenv, 'NAMED').result())"
    assert run(names, f"import manyhands as mh\n{told}") == "yes\n"


def test_what_cannot_be_executed_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "python"
    told = run(f"sys.executable = {str(missing)!r}", REFUSED)
    assert told.startswith(f"BrokenProcessPool cannot start a worker: '{missing}' does not exist")
    assert "multiprocessing.set_executable" in told
    missing.touch(0o644)
    assert "may not be executed" in run(f"sys.executable = {str(missing)!r}", REFUSED)


def test_a_frozen_program_is_not_started_again() -> None:
    told = run("sys.frozen = True", REFUSED)
    assert told.startswith("BrokenProcessPool cannot start a worker: this program is frozen")
    assert "multiprocessing.set_executable" in told
