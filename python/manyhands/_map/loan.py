"""The executors that a map works with."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from manyhands._pool.shared import new_executor, shared_pool

if TYPE_CHECKING:
    from types import TracebackType

    from manyhands._pool.executor import Executor

__all__ = ["Loan"]


class Loan(AbstractContextManager["Loan"]):
    """Lends executors: the shared ones, or larger ones, which end with the loan.

    Args:
        wait: whether the end waits until its own executors have ended.
        timeout: that of the tasks, or None. A thread may go on after it: nobody waits for that.
    """

    def __init__(self, wait: bool = True, timeout: float | None = None) -> None:
        self._wait = wait
        self._timeout = timeout
        self._own: dict[str, Executor] = {}

    def executor(self, kind: str, most: int | None = None) -> Executor:
        """Return an executor of that kind with at least `most` workers (None: the shared one)."""
        own = self._own.get(kind)
        if own is not None and (most is None or own._max_workers >= most):
            return own
        shared = shared_pool(workers=kind)
        if most is None or shared._max_workers >= most:
            return shared
        if own is not None:
            own.resize(most)
            return own
        own = self._own[kind] = new_executor(kind, most)
        return own

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After a failure, what runs goes on to its end, and nobody waits for it: be it here, or in
        # the shared executors, where other callers' tasks run as well.
        failed = kind is not None
        self.close(self._wait and not failed, failed)

    def close(self, wait: bool = False, cancel: bool = True) -> None:
        """Give everything back, and end what only this loan has.

        Args:
            wait: whether to wait until the loan's own executors have ended.
            cancel: whether to withdraw what they have not begun.
        """
        while self._own:
            _, executor = self._own.popitem()
            in_time = executor._kind.ends_tasks or self._timeout is None
            executor.shutdown(wait=wait and in_time, cancel_futures=cancel)
