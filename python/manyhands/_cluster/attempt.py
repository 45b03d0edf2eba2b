"""What a task knows of its own run: the first argument of tasks with ``bind=True``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from manyhands._errors.base import ManyhandsError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Attempt", "MaxRetriesExceeded", "Retry"]


class Retry(ManyhandsError):
    """A task asks to be run again; `Attempt.retry` raises it, and the worker takes it.

    Attributes:
        when: the moment, or seconds from now.
        cause: the exception because of which it does, or None.
    """

    __module__ = "manyhands"

    def __init__(self, when: float | datetime, cause: Exception | None = None) -> None:
        super().__init__(when, cause)
        self.when: float | datetime = when
        self.cause = cause


class MaxRetriesExceeded(ManyhandsError):
    """A task asked to be run again more often than it may."""

    __module__ = "manyhands"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a task, as its message describes it.

    Attributes:
        task: the task's name.
        max_retries: how often it may ask to be run again; None for any number.
        retry_delay: seconds until then, if `retry` is not told otherwise.
        id: its id, by which its result is found.
        retries: how often it has asked to be run again before.
        deaths: how many processes have died over it before.
        root_id: the id of the first task of which it is a consequence.
        parent_id: the id of the task that has sent it, or None.
        group: the id of the group it belongs to, or None.

    Example:
        >>> @mh.task(bind=True)
        ... def fetch(attempt, url):
        ...     try:
        ...         return load(url)
        ...     except ConnectionError as error:
        ...         attempt.retry(error, countdown=2**attempt.retries)
    """

    __module__ = "manyhands"

    task: str
    max_retries: int | None
    retry_delay: float
    id: str
    retries: int = 0
    deaths: int = 0
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None

    def retry(
        self,
        cause: Exception | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
    ) -> NoReturn:
        """End this run, and have the task run again later.

        Args:
            cause: why; raised if it may not be run again.
            countdown: seconds until then; None: the task's ``retry_delay``.
            eta: the moment, instead of `countdown`.

        Raises:
            Retry: it will be run again. Let it pass.
            MaxRetriesExceeded: it will not, and there is no `cause`.
        """
        if self.max_retries is not None and self.retries >= self.max_retries:
            raise cause or MaxRetriesExceeded(
                f"{self.task}[{self.id}] has been run again as often as it may: {self.retries}"
            )
        raise Retry(eta or (self.retry_delay if countdown is None else countdown), cause) from cause
