"""What the Makefile leans on: finding interpreters, and knowing when a wheel has changed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import environment  # noqa: E402 - found by the line above


def found(*minors: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/interpreters.py"), *minors]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_listed_interpreter_is_what_it_is_listed_as() -> None:
    lines = [line.split(" ", 1) for line in found().stdout.splitlines()]
    assert lines
    assert len({minor for minor, _ in lines}) == len(lines)
    for minor, python in lines:
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == minor


def test_no_interpreter_is_an_error_that_says_so() -> None:
    done = found("3.99")
    assert done.returncode == 1
    assert "no CPython of 3.99 found" in done.stderr


def wheel(path: Path, text: str, serial: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/__init__.py", text)
        archive.writestr("package-1.dist-info/sboms/package.json", serial)
    return path


def test_a_wheel_has_changed_when_its_files_have(tmp_path: Path) -> None:
    path = tmp_path / "package.whl"
    one = environment.contents(wheel(path, "x = 1", serial="a"))
    assert environment.contents(wheel(path, "x = 1", serial="b")) == one
    assert environment.contents(wheel(path, "x = 2", serial="a")) != one
