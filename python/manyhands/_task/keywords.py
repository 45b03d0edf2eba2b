"""What may be said by keyword of an executor's tasks, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from manyhands._task.options import Backoff

__all__ = ["OptionKeywords"]


class OptionKeywords(TypedDict, total=False):
    """What `Executor.options` takes beside `wait_for_futures`."""

    timeout: float | None
    retries: int
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    priority: int
    name: str | None
    backoff: Backoff
