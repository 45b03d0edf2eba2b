"""The exception that tells of threads which wait for each other.

A module of its own, since named tuples are long to import.
"""

from __future__ import annotations

from typing import NamedTuple

from manyhands._errors.base import ManyhandsError

__all__ = ["DeadlockError", "DeadlockMember"]


class DeadlockMember(NamedTuple):
    """One of those who wait for each other.

    Attributes:
        pid: process id.
        thread: the thread's number in the system, as `threading.Thread.native_id`.
        lock: which lock it waits for.
        stack: where it waits, as text; empty where it is not known.
    """

    pid: int
    thread: int
    lock: str
    stack: str


DeadlockMember.__module__ = "manyhands"  # in the body, type checkers take it for a field


class DeadlockError(ManyhandsError, RuntimeError):
    """Threads wait for each other in a circle; raised in one of them, so that the others go on.

    Attributes:
        members: each of them, this thread first; a member waits for the lock that the next holds.
    """

    __module__ = "manyhands"

    def __init__(self, message: str = "", members: tuple[DeadlockMember, ...] = ()) -> None:
        super().__init__(message)
        self.members = members

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.args[0], self.members))
