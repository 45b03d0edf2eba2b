"""The input of the demonstration: source files of the standard library that runs it."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manyhands.demo._report import DemoError

__all__ = ["FEWEST_FILES", "Sources", "find_sources"]

FEWEST_FILES: Final = 500

# Not the library itself: packages installed beside it, and tests, some of which hold source that
# is broken on purpose.
_SKIPPED_FOLDERS: Final = frozenset(
    {"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"}
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Source files to work on.

    Attributes:
        folder: where they were found.
        paths: their paths, sorted.
        bytes: their size in all.
    """

    folder: str
    paths: tuple[str, ...]
    bytes: int


def find_sources(count: int, folder: str | None = None) -> Sources:
    """Pick `count` source files evenly from all below `folder`, by default the standard library.

    Each is read once, so that whatever works on them first does not pay for the disk.

    Raises:
        DemoError: there are fewer than `FEWEST_FILES`.
    """
    if folder is None:
        folder = sysconfig.get_path("stdlib")
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        found += [str(Path(parent, name)) for name in names if name.endswith(".py")]
    if len(found) < FEWEST_FILES:
        raise DemoError(
            f"the demo needs at least {FEWEST_FILES} source files of Python's standard library, "
            f"but {folder} has {len(found)}; run it with a Python whose library is installed as "
            "source files"
        )
    found.sort()
    paths = tuple(found[index * len(found) // count] for index in range(count))
    size = 0
    for path in paths:
        with open(path, "rb") as file:
            size += len(file.read())
    return Sources(folder, paths, size)
