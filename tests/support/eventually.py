"""Waiting, in tests, for what happens in other processes: by looking, never by sleeping it out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

# What is waited for comes within milliseconds; a busy machine may need a thousand times that.
PATIENCE_S = 20.0
PAUSE_S = 0.002


def eventually(condition: Callable[[], object], what: str, patience: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; fail the test when it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(PAUSE_S)


def begun(folder: Path, name: str = "task") -> int:
    """Wait until a task has announced itself (see `tasks.announce`); return its process id."""
    file = folder / f"{name}.pid"
    eventually(file.exists, f"the task {name!r} begins")
    return int(file.read_text())


def let_go(folder: Path) -> None:
    """Lets tasks in `tasks.hold` go on."""
    (folder / "go").touch()


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def parent_of(pid: int) -> int:
    """Return the parent of a process that runs."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_with(name: str, value: str) -> list[int]:
    """Return processes, but this one, that were started with this environment variable."""
    mark = f"{name}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0") and is_running(int(entry.name)):
            found.append(int(entry.name))
    return found
