"""The working directory, which may have been removed."""

from __future__ import annotations

import os

__all__ = ["working_directory"]


def working_directory() -> str | None:
    """Return the working directory, or None if it has been removed.

    Example:
        >>> working_directory() is not None
        True
    """
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib would cost every worker's start
    except OSError:
        return None
