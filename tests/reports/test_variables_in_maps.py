"""A map's function sees the variables of its module's context in all items, also the first ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
from contextvars import ContextVar

VARIABLE = ContextVar("VARIABLE", default="default")


def read(_):
    return VARIABLE.get()
"""

PROGRAM = """
import manyhands as mh

if __name__ == "__main__":
    VARIABLE.set("set")
    with mh.ProcessPoolExecutor(2) as pool:
        print(pool.submit(read, None).result())
    with mh.ProcessPoolExecutor(2) as pool:
        print(*set(pool.map(read, range(8), chunksize=2)))
    with mh.ProcessPoolExecutor(2) as pool:
        print(*set(pool.imap(lambda _: VARIABLE.get(), range(8), chunksize=2)))
    with mh.ProcessPoolExecutor(2) as pool:
        print(*set(pool.map(lambda _: VARIABLE.get(), range(8), chunksize=1)))
    print(*set(mh.map(read, range(8), workers="process")))
    with mh.Pool(2) as pool:
        print(*set(pool.map(read, range(8))))
"""


# multiprocessing gives `__main__` another name when it is imported.
@pytest.mark.parametrize("first", ["", "import multiprocessing\n"])
@pytest.mark.parametrize("home", ["__main__", "another module"])
def test_variables_of_the_functions_module(home: str, first: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    if home == "__main__":
        program.write_text(first + MODULE + PROGRAM)
    else:
        (tmp_path / "home_of_variables.py").write_text(MODULE)
        program.write_text(first + "from home_of_variables import VARIABLE, read\n" + PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout.split("\n"), done.stderr) == (["set"] * 6 + [""], "")
