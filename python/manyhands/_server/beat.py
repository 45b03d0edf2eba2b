"""Whether a server answers: how often that is looked at, and when it was too long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyhands import _native

__all__ = ["BEAT_S", "is_fresh"]

# How often it is made sure that a server answers, if somebody may ask.
BEAT_S = 1.0
# What has not answered for so many beats does not answer.
LATE = 3


def is_fresh(ledger: _native.ServerLedger, beat_s: float | None) -> bool:
    """Tell whether a server, or a process of one, has answered a moment ago."""
    answered = ledger.answered()
    return beat_s is not None and answered is not None and answered < LATE * beat_s
