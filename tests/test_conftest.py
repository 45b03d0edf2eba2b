"""The check that nothing is left behind finds what is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
QUIET = """
import os, subprocess, sys, threading
kept = []
ENDED = os.WEXITED | os.WNOWAIT
"""


def run(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Runs one test with this body under our conftest, which waits for leftovers only shortly."""
    conftest = CONFTEST.read_text().replace("LOOKS = 500", "LOOKS = 5")
    conftest = conftest.replace('("ThreadPoolExecutor", "ProcessPoolExecutor")', "()")
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(f"{QUIET}\ndef test_it():\n    {body}\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_a_clean_test_passes(tmp_path: Path) -> None:
    done = run(tmp_path, "subprocess.run([sys.executable, '-c', '']); os.close(os.dup(0))")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("kept.append(os.dup(0))", "1 more open"),
        ("kept.append(os.pipe())", "2 more open: pipe:"),
        ("kept.append(subprocess.Popen(['sleep', '20']))", "sleep 20"),
        ("os.system('sleep 20 &')", "sleep 20"),
        (
            "os.waitid(os.P_PID, os.posix_spawn('/bin/true', ['true'], {}), ENDED)",
            "(zombie)",
        ),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", "thread "),
    ],
)
def test_what_is_left_behind_is_named(tmp_path: Path, body: str, said: str) -> None:
    done = run(tmp_path, body)
    assert done.returncode == 1, done.stdout
    assert "left behind:" in done.stdout
    assert said in done.stdout
