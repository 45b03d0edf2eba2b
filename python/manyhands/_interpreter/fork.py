"""Forked children that do not wait for imports which nobody will ever finish.

CPython's lock of a module that is being imported stays locked in a forked child, where the thread
that would unlock it does not exist: importing that module there waits forever. Much of this
package is imported when first used, in whatever thread that happens. So a child forgets what other
threads were importing, and imports it again when it needs it.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []


def _forget_imports() -> None:
    """Give up the imports of threads that do not exist in this forked child."""
    bootstrap: Any = sys.modules["_frozen_importlib"]
    locks: dict[str, Any] | None = getattr(bootstrap, "_module_locks", None)
    blocking: Any = getattr(bootstrap, "_blocking_on", None)
    if locks is None or blocking is None:
        return  # a Python that does it otherwise
    me = get_ident()
    for name, reference in list(locks.items()):
        owner = getattr(reference(), "owner", None)
        if owner is None or owner == me:
            continue
        del locks[name]
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            del sys.modules[name]
    # Says which thread waits for which lock. A new thread may get the number of one that is gone.
    blocking.clear()


def _settle() -> None:
    # Not imported here: a program that only imports the package does not need it.
    native = sys.modules.get("manyhands._native")
    settle = getattr(native, "settle", None)
    if settle is not None:
        settle()


os.register_at_fork(before=_settle, after_in_child=_forget_imports)
