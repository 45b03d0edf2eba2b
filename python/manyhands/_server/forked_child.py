"""The child that a handler has forked and let go: nothing of the server's is its to do."""

from __future__ import annotations

import os
import sys

__all__ = ["end_process"]


def end_process(error: BaseException | None) -> None:
    """End this process as Python does, but for what others of its threads would do."""
    status: object = 0 if error is None else 1
    if isinstance(error, SystemExit):
        status = error.code or 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # there is none, or nobody reads it
    os._exit(status if isinstance(status, int) else 1)
