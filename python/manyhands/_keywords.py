"""What may be said by keyword, for type checkers: signatures that differ in one word share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from manyhands._map import Workers
    from manyhands._options import Backoff
    from manyhands._progress import ProgressOption

__all__ = ["MapKeywords", "OptionKeywords"]


class OptionKeywords(TypedDict, total=False):
    """What `Executor.options` takes beside `wait_for_futures`."""

    timeout: float | None
    retries: int
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    priority: int
    name: str | None
    backoff: Backoff


class MapKeywords(TypedDict, total=False):
    """What `map` and its other forms take beside `return_exceptions`."""

    workers: Workers
    max_workers: int | None
    timeout: float | None
    retries: int
    backoff: Backoff
    progress: ProgressOption
    chunksize: int | None
