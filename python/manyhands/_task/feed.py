"""The input of a map, taken in pieces."""

from __future__ import annotations

import sys
from collections.abc import Sized
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Feed", "Unpacked"]


def _is_sliceable(items: object) -> TypeGuard[Sequence[Any]]:
    """Say whether slices of `items` are cheap and iterate to the same items."""
    if type(items) in (list, tuple, range):
        return True
    # An array sends a slice in one buffer, where its items would be pickled one by one.
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(items) is numpy.ndarray and getattr(items, "ndim", 0) > 0


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield


class Unpacked:
    """An input of a map whose items are unpacked into arguments."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Iterable[Any]]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Iterable[Any]]:
        return iter(self.items)


class Feed:
    """The input of a map, taken in pieces. Slices of sequences cost next to nothing.

    Attributes:
        remaining: how many items are left, or None if the input does not say.
        taken: how many items have been taken.
        star: whether items are tuples of arguments.
    """

    __slots__ = ("_error", "_items", "_iterator", "remaining", "star", "taken")

    def __init__(self, iterables: Sequence[Iterable[Any]], star: bool) -> None:
        self._error: Exception | None = None
        self._items: Sequence[Any] | None = None
        self._iterator: Iterator[Any] | None = None
        self.remaining: int | None = None
        self.taken = 0
        self.star = star or len(iterables) != 1
        if len(iterables) == 1 and isinstance(iterables[0], Unpacked):
            self.star, iterables = True, (iterables[0].items,)
        if len(iterables) == 1 and _is_sliceable(iterables[0]):
            self._items = iterables[0]
        elif len(iterables) == 1:
            self._iterator = iter(iterables[0])
        else:
            self._iterator = zip(*iterables, strict=False)
        if iterables and all(isinstance(each, Sized) for each in iterables):
            self.remaining = min(len(each) for each in iterables)  # type: ignore[arg-type]

    def read_all(self) -> int:
        """Read the whole input, before any is taken, and return how many items it has."""
        if self._iterator is not None:
            self._items = list(self._iterator)
            self._iterator = None
            self.remaining = len(self._items)
        assert self.remaining is not None
        return self.remaining

    def take(self, size: int) -> Sequence[Any]:
        """Return the next `size` items, fewer at the end, none after it.

        What the input raises is raised once the items before it have been taken.
        """
        if self._items is not None:
            piece = self._items[self.taken : self.taken + size]
        else:
            piece = self._read(size)
        self.taken += len(piece)
        if self.remaining is not None:
            self.remaining -= len(piece)
        return piece

    def _read(self, size: int) -> list[Any]:
        assert self._iterator is not None
        if self._error is not None:
            error, self._error = self._error, None
            self._iterator = iter(())
            raise error
        piece: list[Any] = []
        try:
            piece.extend(islice(self._iterator, size))
        except Exception as error:
            if not piece:
                raise
            self._error = error
        return piece

    def give_back(self, items: Sequence[Any]) -> None:
        """Take back the latest items that were taken, to be taken again."""
        if self._iterator is not None:
            later = self._iterator if self._error is None else _raising(self._error)
            self._iterator, self._error = chain(items, later), None
        self.skip(-len(items))

    def rest(self) -> Iterator[Any]:
        """Iterate over what is left, reading the input as lazily as it allows.

        Whoever takes some of it, and leaves the others to `take`, says so with `skip`.
        """
        if self._items is not None:
            return islice(self._items, self.taken, None)
        assert self._iterator is not None
        if self._error is not None:
            return chain.from_iterable(iter(lambda: self._read(1), []))
        return self._iterator

    def skip(self, count: int) -> None:
        """Note that so many items have been taken from `rest`."""
        self.taken += count
        if self.remaining is not None:
            self.remaining -= count
