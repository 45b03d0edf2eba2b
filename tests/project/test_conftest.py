"""The check that nothing is left behind finds what is left behind."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from rules import ROOT, SUPPORT

FILES = (ROOT / "tests" / "conftest.py", SUPPORT / "once.py")
QUIET = """
import os, subprocess, sys, threading
kept = []
ENDED = os.WEXITED | os.WNOWAIT
"""
CLEAN = "subprocess.run([sys.executable, '-c', '']); os.close(os.dup(0))"
# What a test does -> how what it leaves is named.
LEAVE = {
    "kept.append(os.dup(0))": "1 more open",
    "kept.append(os.pipe())": "2 more open: pipe:",
    "kept.append(subprocess.Popen(['sleep', '20']))": "sleep 20",
    "os.system('sleep 21 &')": "sleep 21",
    "os.waitid(os.P_PID, os.posix_spawn('/bin/true', ['true'], {}), ENDED)": "(zombie)",
    "threading.Thread(target=threading.Event().wait, daemon=True).start()": "thread ",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what our conftest says after tests that do this, which it waits for only shortly."""
    folder = tmp_path_factory.mktemp("run")
    for file in FILES:
        text = file.read_text().replace("LOOKS = 500", "LOOKS = 5")
        text = text.replace('("ThreadPoolExecutor", "ProcessPoolExecutor")', "()")
        (folder / file.name).write_text(text)
    acts = [CLEAN, *LEAVE]
    tests = [f"def test_{number}():\n    {act}\n" for number, act in enumerate(acts)]
    (folder / "test_it.py").write_text("\n".join([QUIET, *tests]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert f"{len(acts)} passed, {len(LEAVE)} errors" in done.stdout, done.stdout + done.stderr
    full = done.stdout.partition("short test summary")[0]
    parts = re.split(r"^_+ ERROR at teardown of test_(\d+) _+$", full, flags=re.MULTILINE)
    return {acts[int(number)]: text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_a_clean_test_passes(said: dict[str, str]) -> None:
    assert CLEAN not in said


@pytest.mark.parametrize("act", LEAVE)
def test_what_is_left_behind_is_named(said: dict[str, str], act: str) -> None:
    assert "left behind:" in said[act]
    assert LEAVE[act] in said[act]
