"""Programs that use process pools: no guard is needed, and everything of `__main__` works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import dataclasses, enum, os
import manyhands as mh

factor = 3

@dataclasses.dataclass
class Point:
    x: int
    def double(self):
        return Point(2 * self.x)

class Colour(enum.Enum):
    RED = 1

class Trouble(Exception):
    pass

def scale(number):
    return factor * number

def calls_another(number):
    return scale(number) + 1

def raises():
    raise Trouble("of main")

def recurse(number):
    return 1 if number == 0 else number * recurse(number - 1)

pool = mh.ProcessPoolExecutor(max_workers=2)
assert pool.submit(scale, 2).result() == 6
factor = 5
assert pool.submit(scale, 2).result() == 10, "a global was changed between two submits"
assert pool.submit(calls_another, 2).result() == 11
assert pool.submit(recurse, 5).result() == 120
assert pool.submit(lambda: [scale(n) for n in range(3)]).result() == [0, 5, 10]
point = pool.submit(Point(4).double).result()
assert type(point) is Point and point == Point(8)
assert pool.submit(lambda colour: colour, Colour.RED).result() is Colour.RED
try:
    pool.submit(raises).result()
except Trouble as error:
    assert str(error) == "of main"
else:
    raise AssertionError("nothing was raised")

def scale(number):
    return -number

assert pool.submit(scale, 2).result() == -2, "the function was defined again"
assert mh.map(scale, range(500), workers="process") == [-n for n in range(500)]
assert pool.submit(lambda: __name__).result() == "__main__"
print("started once", os.getpid())
"""


def run(arguments: list[str], program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(
        command, input=program, capture_output=True, text=True, cwd=folder, timeout=50, check=False
    )


@pytest.mark.parametrize("way", ["file", "-c", "stdin"])
def test_a_program_without_a_guard(way: str, tmp_path: Path) -> None:
    if way == "file":
        (tmp_path / "program.py").write_text(PROGRAM)
        done = run(["program.py"], "", tmp_path)
    elif way == "-c":
        done = run(["-c", PROGRAM], "", tmp_path)
    else:
        done = run(["-"], PROGRAM, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1, "the program ran more than once"
    assert done.stdout.startswith("started once")


def test_a_module_run_with_m(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "sibling.py").write_text("def triple(n):\n    return 3 * n\n")
    (tmp_path / "package" / "__main__.py").write_text(
        "import manyhands as mh\n"
        "from . import sibling\n"
        "from .sibling import triple\n"
        "with mh.ProcessPoolExecutor(1) as pool:\n"
        "    print(pool.submit(triple, 2).result())\n"
        "    print(pool.submit(lambda: sibling.triple(3)).result())\n"
    )
    done = run(["-m", "package"], "", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "6\n9\n", "")


def test_with_the_guard_that_others_need(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import manyhands as mh\n"
        "def work(n):\n"
        "    return n + 1\n"
        "if __name__ == '__main__':\n"
        "    with mh.ProcessPoolExecutor() as pool:\n"
        "        print(list(pool.map(work, [1, 2])))\n"
    )
    done = run(["program.py"], "", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2, 3]\n", "")


def test_interpreter_flags_and_modules_beside_the_program(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("def halve(n):\n    return n // 2\n")
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "import manyhands as mh\n"
        "import beside\n"
        "with mh.ProcessPoolExecutor(1) as pool:\n"
        "    print(pool.submit(beside.halve, 8).result())\n"
        "    print(pool.submit(lambda: (sys.flags.optimize, sys.argv[1:])).result())\n"
    )
    done = run(["-O", "program.py", "an argument"], "", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "4\n(1, ['an argument'])\n"


def test_a_program_that_reads_its_standard_input(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "import manyhands as mh\n"
        "with mh.ProcessPoolExecutor(2) as pool:\n"
        "    for length in pool.imap(len, sys.stdin):\n"
        "        print(length)\n"
    )
    done = run(["program.py"], "one\nthree\n", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n6\n", "")
