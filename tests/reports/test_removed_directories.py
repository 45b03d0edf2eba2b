"""A program whose working directory has been removed uses a process pool.

From the trackers of servers and build tools that run in temporary folders (pex, edgi's
web-monitoring): CPython 3.13.0 fails there when it is started with ``-c``, as the zygote was.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
import manyhands as mh
import manyhands._map.map, manyhands._pool.process

os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
if sys.argv[2] == "before":
    os.rmdir(sys.argv[1])
with mh.ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
    assert pool.submit(abs, -1).result() == 1
    if sys.argv[2] == "meanwhile":
        os.rmdir(sys.argv[1])
    assert pool.submit(abs, -2).result() == 2
with mh.ProcessPoolExecutor(1) as pool:
    try:
        pool.submit(os.getcwd).result()
    except FileNotFoundError:
        print("as in the parent")
"""


@pytest.mark.parametrize("options", [[], ["-P"]])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_removed_working_directory(when: str, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *options, str(tmp_path / "program.py"), str(tmp_path / "removed"), when],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "as in the parent\n"), done.stderr
