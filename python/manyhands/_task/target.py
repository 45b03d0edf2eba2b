"""Where tasks go: an executor, as far as those know it that make tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._future.future import Future
    from manyhands._task.options import TaskOptions
    from manyhands._task.worker_kind import WorkerKind

__all__ = ["Reserved", "Target"]

T = TypeVar("T")


class Reserved(Protocol):
    """Where a task goes that was announced."""

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future[Any] | None,
    ) -> Future[Any]:
        """Schedule the task, whose future is there already."""

    def _give_back(self) -> None:
        """Note that the task has been submitted, or never will be."""


class Target(Protocol):
    """An executor, for what makes tasks."""

    @property
    def _kind(self) -> WorkerKind: ...

    _max_workers: int

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Schedule a call."""

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        """Schedule a call with options."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks."""

    def _give_up(self) -> None:
        """Take no more tasks, and end those that there are."""

    def _is_shut_down(self) -> bool:
        """Say whether it takes no more tasks."""

    def _reserve(self) -> Reserved:
        """Announce a task."""

    def _announced(self) -> set[Future[Any]]:
        """Return the futures of tasks that have been announced."""
