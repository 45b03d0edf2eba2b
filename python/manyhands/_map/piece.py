"""A part of a map's input that is run to find out what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from manyhands._task.chunk import Outcome, is_returnable, run_chunk
from manyhands._task.item_note import NO_ITEM
from manyhands._task.submission import outcome_of, wait_done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyhands._future.future import Future
    from manyhands._map.meter import Meter

__all__ = ["Piece", "metered_call", "metered_piece"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the input that the pilot has run or is running.

    Attributes:
        future: its outcome, or, if `single`, the result of its only item.
        items: the input.
        first: the place of its first item in the input.
        single: see `future`.
        meter: what it costs.
        return_exceptions: whether an item's exception takes the place of its result.
    """

    future: Future[Any]
    items: Sequence[Any]
    first: int
    single: bool
    meter: Meter
    return_exceptions: bool

    def wait(self, seconds: float | None) -> bool:
        """Wait until the piece is done, or `seconds` have passed; return whether it is done."""
        return wait_done(self.future, seconds)

    def failed(self) -> bool:
        """Say whether the piece is done and an item of it has failed."""
        if not self.future.done():
            return False
        if self.future.cancelled():
            return True
        error = self.future.exception()
        if error is not None:
            return not self.return_exceptions or not is_returnable(error)
        return not self.single and self.future.result()[1] is not None

    def results(self) -> list[Any] | None:
        """Return the results if it is done and has not failed."""
        if not self.future.done() or self.failed():
            return None
        if self.future.exception() is not None:
            return [self.future.exception()] * len(self.items)
        value = self.future.result()
        return [value] if self.single else value[0]

    def outcome(self) -> list[Any]:
        """Wait for the piece and return its results; raise what an item raised."""
        item = self.items[0] if self.single else NO_ITEM
        results, failure, _ = outcome_of(
            self.future,
            self.single,
            self.first,
            len(self.items),
            self.return_exceptions,
            item=item,
        )
        if failure is not None:
            raise failure.let_go()
        return results


def metered_piece(
    meter: Meter,
    fn: Callable[..., T],
    items: Sequence[Any],
    star: bool,
    retries: int,
    retry_on: tuple[type[BaseException], ...],
    return_exceptions: bool = False,
    stretch: int = 0,
    enough: float = 0.0,
) -> Outcome[T]:
    trying = (retries, retry_on, return_exceptions)
    meter.begin()
    try:
        return run_chunk(fn, items, star, *trying, stretch=stretch, enough=enough)
    finally:
        meter.end()


def metered_call(meter: Meter, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
    meter.begin()
    try:
        return fn(*args)
    finally:
        meter.end()
