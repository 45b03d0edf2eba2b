"""Objects that are known for as long as they live.

Imported by every worker, so it imports next to nothing.
"""

from __future__ import annotations

from weakref import ref

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Generic, TypeVar

    T = TypeVar("T")
else:
    T, Generic = object, {object: object}

__all__ = ["Living"]


class Living(Generic[T]):
    """A set of weak references that threads may add to while another walks through it.

    `weakref.WeakSet` raises RuntimeError then, in the thread that walks, up to CPython 3.13.

    Example:
        >>> class Thing: ...
        >>> thing, known = Thing(), Living()
        >>> known.add(thing)
        >>> [each is thing for each in known]
        [True]
        >>> del thing
        >>> list(known)
        []
    """

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: set[ref[Any]] = set()

    def add(self, thing: T) -> None:
        """Take in `thing`, which must be hashable."""
        self._references.add(ref(thing, self._references.discard))

    def __iter__(self) -> Iterator[T]:
        # A list is made of a set in one step, in which no other thread changes the set.
        for reference in list(self._references):
            thing = reference()
            if thing is not None:
                yield thing
