"""Every Python block of the documentation and of the README runs, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```output\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


def blocks() -> Iterator[object]:
    """Yields (code, what it prints or None) of each Python block."""
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


def test_there_are_blocks() -> None:
    assert len(list(blocks())) > 30
