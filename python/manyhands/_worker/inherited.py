"""Descriptors that a zygote inherits because objects of the parent refer to them by number."""

from __future__ import annotations

import fcntl
import os

__all__ = ["arrange"]


def arrange(control_fd: int, segment_fd: int, inherited: dict[int, int]) -> tuple[int, int]:
    """Move inherited descriptors to the numbers that their objects know them by.

    Args:
        control_fd: the zygote's end of its socket.
        segment_fd: the parent's segment.
        inherited: the number here of each, and the number that it must have.

    Returns:
        The new numbers of the control socket and the segment, out of the way of all the others.
    """
    above = max(control_fd, segment_fd, *inherited, *inherited.values()) + 1
    moved = {
        number: fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, above)
        for number in (control_fd, segment_fd, *inherited)
    }
    for number in moved:
        os.close(number)
    for number, wanted in inherited.items():
        os.dup2(moved[number], wanted, inheritable=False)
        os.close(moved[number])
    return moved[control_fd], moved[segment_fd]
