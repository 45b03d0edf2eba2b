"""Which program workers are started with: a Python like this one, whatever runs this one."""

from __future__ import annotations

import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

__all__ = ["program"]

_ADVICE = (
    "name a Python interpreter like this one, by multiprocessing.set_executable(path), "
    "or use threads"
)


def program() -> str:
    """Return the path of the interpreter for workers.

    It is what `multiprocessing.set_executable` has been told; else ``sys.executable``; else, where
    Python is part of another program (uWSGI, Blender), the interpreter that it was installed with.

    Raises:
        BrokenProcessPool: there is none, or it cannot be executed.

    Example:
        >>> program() == sys.executable
        True
    """
    path = _chosen() or _own()
    if path is None:
        kind = "is frozen" if getattr(sys, "frozen", False) else "has no sys.executable"
        raise BrokenProcessPool(f"no worker can be started: this program {kind}; {_ADVICE}")
    if not os.access(path, os.X_OK):
        what = "may not be executed" if Path(path).exists() else "does not exist"
        raise BrokenProcessPool(f"no worker can be started: {path!r} {what}; {_ADVICE}")
    return path


def _chosen() -> str | None:
    """Return what the program has told multiprocessing, if that is something of its own."""
    spawn = sys.modules.get("multiprocessing.spawn")
    told = None if spawn is None else spawn.get_executable()
    chosen = os.fsdecode(told) if told else None
    return None if chosen == sys.executable else chosen


def _own() -> str | None:
    if getattr(sys, "frozen", False):
        return None  # it would only start itself again, and again
    if sys.executable and "py" in Path(sys.executable).name:
        return sys.executable
    version = sys.version_info
    installed = Path(sys.exec_prefix, "bin", f"python{version.major}.{version.minor}")
    return str(installed) if os.access(installed, os.X_OK) else sys.executable or None
