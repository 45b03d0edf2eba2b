"""The pieces that results of a map come in."""

from __future__ import annotations

from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

__all__ = ["Batch", "Pieces"]

T = TypeVar("T")

# Results that are computed as they are taken are handed over after so many seconds.
_HANDOVER: Final = 0.001

# Some results, and what came instead of the next one: an error, or StopIteration for the end.
Batch: TypeAlias = tuple[list[T], BaseException | None]


class Pieces(Generic[T]):
    """The pieces that a map's results come in, and the one that results are being taken from."""

    def __init__(self, pieces: Generator[Iterable[T], None, None]) -> None:
        self._pieces = pieces
        self._piece: Iterator[T] = iter(())
        # One thread at a time waits for a batch, or closes. Reentrant, for signal handlers.
        self._lock = RLock()

    def __iter__(self) -> Iterator[Iterator[T]]:
        return self

    def __next__(self) -> Iterator[T]:
        self._piece = iter(next(self._pieces))
        return self._piece

    def close(self) -> None:
        """Withdraw the calls that have not been started."""
        with self._lock:
            self._pieces.close()
            # One whose results are computed as they are taken computes no more.
            close = getattr(self._piece, "close", None)
            if close is not None:
                close()

    def batch(self) -> Batch[T]:
        """Wait for results, and return those that are there."""
        results: list[T] = []
        until = monotonic() + _HANDOVER
        try:
            with self._lock:
                while not results:
                    for result in self._piece:
                        results.append(result)
                        if monotonic() >= until:
                            return results, None
                    if not results:
                        next(self)
        except BaseException as error:
            return results, error
        return results, None
