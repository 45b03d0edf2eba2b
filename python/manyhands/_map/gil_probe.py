"""Whether an item holds the GIL while it computes, as another thread sees it.

A thread that wants the GIL gets it at once, or has to wait because somebody computes with it.
Unlike two items side by side this takes one, and other work on the machine does not blur the
answer: a thread that has lost the CPU while holding the GIL still holds it.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Final

from manyhands._native import probe_gil

if TYPE_CHECKING:
    from manyhands._map.piece import Piece

__all__ = ["GilProbe"]

# Seconds between two probes.
PAUSE: Final = 0.0005
# A piece that has not computed for this part of the pause did not run.
PROGRESS: Final = 0.3
# Whoever waits for the GIL for longer than this, in seconds, has found it held.
HELD: Final = 0.0002
# So many probes are enough if they agree, and so many in any case.
AGREED: Final = 3
ENOUGH: Final = 6


class GilProbe:
    """Probes the GIL while pieces of one map run.

    Attributes:
        tries: how many probes met a piece that was computing.
        held: how many of them found the GIL held.
    """

    def __init__(self) -> None:
        self.tries = 0
        self.held = 0

    @property
    def is_clear(self) -> bool:
        """Whether more probes would hardly change the answer."""
        agreed = self.held in (0, self.tries)
        return self.tries >= (AGREED if agreed else ENOUGH)

    def watch(self, piece: Piece, seconds: float) -> bool:
        """Wait until the piece is done, or `seconds` have passed; return whether it is done."""
        until = perf_counter() + seconds
        meter = piece.meter
        done = piece.future.done()
        while not done and not self.is_clear and perf_counter() < until:
            before = meter.cpu() if meter.running else math.inf
            # Not even the first wait is an ordinary one: it could last until the piece has ended.
            waited = probe_gil(PAUSE)
            after = meter.cpu()
            if meter.begun:
                # One that was woken as the GIL became free may still be without a CPU.
                ran = (after or 0.0) - (before or 0.0) > PROGRESS * PAUSE
                self.learn(waited, ran and meter.computing)
            done = piece.future.done()
        return done or piece.wait(max(0.0, until - perf_counter()))

    def learn(self, waited: float, computing: bool) -> None:
        """Take in a probe.

        Args:
            waited: seconds that it took to get the GIL.
            computing: whether the piece went on computing meanwhile. If not, it was waiting for
                something, or has ended: that the GIL was free says nothing about it.
        """
        is_held = waited > HELD
        self.held += is_held
        self.tries += is_held or computing

    @property
    def speedup(self) -> float | None:
        """How many times faster two threads would be than one; None if nobody knows."""
        if not self.tries:
            return None
        share = self.held / self.tries
        return 2.0 if share <= 0.5 else 1.0 / share
