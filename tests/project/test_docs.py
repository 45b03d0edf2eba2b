"""Every Python block of the documentation and of the README runs, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import manyhands as mh
from rules import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if not {"benchmarks", "_build"} & {*path.relative_to(ROOT).parts}
    ),
]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```output\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
# How another library does it: shown beside ours, and run where that library is installed.
OTHERS = re.compile(r"^```py\n(?P<code>.*?)^```\n", re.DOTALL | re.MULTILINE)


def blocks() -> Iterator[object]:
    """Yield (code, what it prints or None) of each Python block."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 2
            yield pytest.param(found["code"], found["output"], id=f"{page.name}:{line}")


@pytest.mark.parametrize(("code", "output"), list(blocks()))
def test_block(code: str, output: str | None, tmp_path: Path) -> None:
    # From stdin, as nothing else shows so well that functions of __main__ need no file. A fork
    # warns where the page says that it does.
    warned = "ignore::DeprecationWarning" if "os.fork()" in code else "error"
    done = subprocess.run(
        [sys.executable, "-W", warned, "-"],
        input=code,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if output is not None:
        assert done.stdout == output


def test_each_public_name_is_in_the_table_of_what_threads_may_share() -> None:
    table = (
        (ROOT / "docs/worker/free-threading.md").read_text(encoding="utf-8").rpartition("## ")[2]
    )
    assert {*mh.__all__} <= {*re.findall(r"`(\w+)", table)}


def pairs() -> Iterator[object]:
    """Yield (code of another library, what the block of ours after it prints)."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in OTHERS.finditer(text):
            line = text.count("\n", 0, found.start()) + 2
            ours = BLOCK.search(text, found.end())
            assert ours is not None, f"{page.name}:{line} stands beside nothing"
            yield pytest.param(found["code"], ours["output"], id=f"{page.name}:{line}")


@pytest.mark.parametrize(("code", "output"), list(pairs()))
def test_block_of_another_library(code: str, output: str, tmp_path: Path) -> None:
    for module in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        pytest.importorskip(module)
    # A file with a guard, as these libraries want it.
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Ours may show more than the other can do.
    assert output.startswith(done.stdout)


def test_there_are_blocks() -> None:
    assert len(list(blocks())) > 30
    assert len(list(pairs())) > 10
