"""manyhands itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from benches import work
from benches.contender import ExecutorContender, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benches.contender import Array

T = TypeVar("T")
R = TypeVar("R")


class Manyhands(ExecutorContender):
    """`mh.ProcessPoolExecutor` and `mh.ThreadPoolExecutor`, everything at its default."""

    distribution = "manyhands"
    labels: ClassVar[dict[Kind, str]] = {"process": "manyhands", "thread": "manyhands"}
    usage: ClassVar[dict[str, str]] = {
        "pool": "`mh.ProcessPoolExecutor(n)`, `mh.ThreadPoolExecutor(n)`",
        "submit": "`pool.submit(f, x)`",
        "map": "`pool.map(f, items)`",
        "shared array": "`pool.submit(f, mh.share(array))`",
        "after a death": "nothing to do",
    }

    def __init__(self, kind: Kind, workers: int) -> None:
        super().__init__(kind, workers)
        import manyhands

        self._make: Callable[[int], Any] = (
            manyhands.ProcessPoolExecutor if kind == "process" else manyhands.ThreadPoolExecutor
        )
        self._share: Callable[[Any], object] = manyhands.share

    def start(self) -> None:
        """Construct the pool."""
        self.pool = self._make(self.workers)

    def map(self, fn: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Map with the default chunk, which adapts itself."""
        return list(self.pool.map(fn, items))

    def shared(self, array: Array) -> tuple[Callable[[Any], float], object]:
        """Place `array` with `mh.share`."""
        return work.last_element, self._share(array)
