"""What signals mean while the command shows a screen of its own."""

from __future__ import annotations

import signal

__all__ = ["prepare"]


def prepare() -> None:
    """Have the command put the terminal right before it ends, and redraw when that is resized."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    # A handler that does nothing, so that whoever waits for a key wakes up.
    signal.signal(signal.SIGWINCH, _look_again)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _look_again(_number: int, _frame: object) -> None:
    pass
