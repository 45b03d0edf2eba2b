"""The exception of a queue that was shut down.

A module of its own, since `queue` is long to import.
"""

from __future__ import annotations

import queue

__all__ = ["ShutDown"]

if hasattr(queue, "ShutDown"):
    ShutDown: type[Exception] = queue.ShutDown
else:

    class ShutDown(Exception):  # type: ignore[no-redef]
        """Raised by put and get of a queue that was shut down; `queue.ShutDown` from 3.13 on."""

        __module__ = "manyhands"
