"""The lock of Python's import system, where a signal handler has left it locked.

`importlib` locks it for moments only. A handler that raises in the first of them, that of Ctrl-C
for one, leaves it to the main thread for good: every other thread that imports anything waits for
it, and whoever waits for such a thread waits forever. Also a handler that interrupts `importlib`
and waits for a thread waits for the code that it has interrupted.
"""

from __future__ import annotations

import _imp
import sys
from contextlib import contextmanager

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["imports_let_through"]

# The code that locks it.
_IMPORTLIB = "<frozen importlib._bootstrap>"
_LOCKS_IT = ("_get_module_lock", "cb")


@contextmanager
def imports_let_through() -> Iterator[None]:
    """Let other threads import while the calling one, which runs the block, waits for them.

    If it has the lock because of code that is being interrupted, it has it again afterwards.

    Example:
        >>> import _imp
        >>> _imp.acquire_lock()  # as a Ctrl-C at a bad moment does
        >>> with imports_let_through():
        ...     _imp.lock_held()
        False
    """
    given_up = 0
    while _imp.lock_held():
        try:
            _imp.release_lock()
        except RuntimeError:  # another thread's, who has it for a moment
            break
        given_up += 1
    try:
        yield
    finally:
        if given_up and _interrupts_importlib():
            for _ in range(given_up):
                _imp.acquire_lock()


def _interrupts_importlib() -> bool:
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _IMPORTLIB and code.co_name in _LOCKS_IT:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
