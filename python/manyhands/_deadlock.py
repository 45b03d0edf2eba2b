"""What a thread says that waits for a lock in a circle."""

from __future__ import annotations

import sys
import traceback

from manyhands._errors import DeadlockError, DeadlockMember

__all__ = ["deadlock_error", "own_stack"]

# Lines of a stack that are published: the innermost ones say where the wait is.
_MOST_FRAMES = 8
_INDENT = "    "


def own_stack() -> str:
    """The innermost frames of the calling thread, outermost first, as a traceback shows them."""
    frames = traceback.extract_stack(sys._getframe(1))[-_MOST_FRAMES:]
    return "".join(traceback.format_list(frames)).rstrip()


def deadlock_error(members: tuple[tuple[int, int, str, str], ...]) -> DeadlockError:
    """The error for (pid, thread, lock, stack) of each member, the caller first."""
    circle = tuple(DeadlockMember(*member) for member in members)
    lines = [f"{len(circle)} threads wait for each other's locks:"]
    for member, following in zip(circle, (*circle[1:], circle[0]), strict=True):
        lines.append(
            f"- process {member.pid}, thread {member.thread} waits for {member.lock}, held by"
            f" process {following.pid}, thread {following.thread}; it is at"
        )
        stack = member.stack or "(not known)"
        lines += [_INDENT + line for line in stack.splitlines()]
    return DeadlockError("\n".join(lines), circle)
