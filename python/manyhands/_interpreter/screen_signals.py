"""What signals mean while the command shows a screen of its own."""

from __future__ import annotations

import signal

__all__ = ["prepare"]


def prepare() -> None:
    """Have the command put the terminal right before a signal ends it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
