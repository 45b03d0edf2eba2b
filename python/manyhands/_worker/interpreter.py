"""How workers are started: by a Python like this one, whatever runs this one, told the same."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["arguments", "flags", "has_gil", "home", "program"]

_ADVICE = (
    "set a Python interpreter like this one with multiprocessing.set_executable(path), or use "
    "threads"
)

# What is seldom set; the standard library knows how that is said.
_RARE = (
    "bytes_warning",
    "debug",
    "ignore_environment",
    "isolated",
    "no_site",
    "no_user_site",
    "quiet",
    "safe_path",
    "verbose",
)


def has_gil() -> bool:
    """Say whether threads of this program take turns with the interpreter.

    Free-threaded builds have no GIL, unless an extension module or ``PYTHON_GIL=1`` wants one.
    """
    enabled: Callable[[], bool] | None = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or enabled()


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
        _refuse(f"this program {kind}")
    if not os.access(path, os.X_OK):
        what = "may not be executed" if os.access(path, os.F_OK) else "does not exist"
        _refuse(f"{path!r} {what}")
    return path


def flags() -> list[str]:
    """Return the options by which an interpreter is told what this one was told.

    Example:
        >>> flags()  # of ``python -B -O``
        ['-O', '-B']
    """
    told = sys.flags
    if (
        sys.warnoptions
        or sys._xoptions
        or told.dev_mode
        or any(getattr(told, name) for name in _RARE)
    ):
        # Not at the top: to import it takes half as long as a worker needs to start.
        import subprocess

        return list(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]
    optimize = ["-" + "O" * told.optimize] if told.optimize else []
    return optimize + ["-B"] * told.dont_write_bytecode


def arguments(code: str) -> list[str]:
    """Return what an interpreter that is told what this one was told needs to run `code`."""
    # -P: with -c alone, CPython 3.13.0 fails where the working directory has been removed.
    return [*flags(), "-P", "-c", code]


def home() -> str:
    """Return the folder that has the package: workers may not find it otherwise."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _refuse(why: str) -> NoReturn:
    # Not at the top: it imports all of multiprocessing, which takes longer than a worker's start.
    from concurrent.futures.process import BrokenProcessPool

    raise BrokenProcessPool(f"cannot start a worker: {why}; {_ADVICE}")


def _chosen() -> str | None:
    """Return what the program has told multiprocessing, if that is something of its own."""
    spawn = sys.modules.get("multiprocessing.spawn")
    told = None if spawn is None else spawn.get_executable()
    chosen = os.fsdecode(told) if told else None
    return None if chosen == sys.executable else chosen


def _own() -> str | None:
    if getattr(sys, "frozen", False):
        return None  # it would only start itself again, and again
    if sys.executable and "py" in sys.executable.rpartition("/")[2]:
        return sys.executable
    version = sys.version_info
    # A free-threaded one has a t behind its version.
    name = f"python{version.major}.{version.minor}{sys.abiflags}"
    installed = f"{sys.exec_prefix}/bin/{name}"
    return installed if os.access(installed, os.X_OK) else sys.executable or None
