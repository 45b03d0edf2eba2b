"""Futures, and waiting for several of them."""

from collections.abc import Iterable
from typing import Any, Self, final

class FutureBase:
    """The native half of `Future`; its methods have the signatures of the stdlib's."""

    def _renew(self) -> None: ...
    def _withdraw(self) -> bool: ...
    def _come_after(self, others: list[Any], /) -> None: ...
    def _begin(self) -> bool: ...
    def _orphan_in_child(self) -> None: ...

def register_future(future_class: type[FutureBase], /) -> None:
    """Make `future_class` the class of every future that executors return."""

@final
class WaitSet:
    """Collects futures of this package as they are done."""

    def __new__(cls, futures: Iterable[object]) -> Self: ...
    def add(self, future: object) -> None: ...
    def take(self, count: int, timeout: float | None = None) -> list[Any]:
        """Wait until `count` are done, or for `timeout` seconds, and take all that are."""
