"""Semaphores."""

from __future__ import annotations

from manyhands import _native
from manyhands._interpreter.public import public
from manyhands._sync.primitive import Acquirable, Unsaid, check_made_with

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any, ClassVar
else:
    Any = object  # for `typing.get_type_hints`

__all__ = ["BoundedSemaphore", "Semaphore"]

_ONE = Unsaid(1)


@public
class Semaphore(_native.SemaphoreBase, Acquirable):
    """A number of permits for threads, processes and coroutines.

    The permits that a process holds when it dies return to the semaphore. It can be released by
    others than those who acquired, and more often than acquired, as in the standard library; such
    further permits belong to nobody.

    Args:
        value: permits at first, 0 or more; may be left out when opening one by its name.
        name: makes it one semaphore for all processes of this user that give the same name.

    Raises:
        ValueError: `value` is negative, or another than the one that bears this name has; or what
            has that name is of another kind.
        MemoryError, OSError: there is no shared memory, or no descriptor.

    Example:
        >>> at_most_two = mh.Semaphore(2)
        >>> with at_most_two:
        ...     at_most_two.get_value()
        1
    """

    __slots__ = ("__weakref__",)

    _bounded: ClassVar[bool] = False

    def __init__(
        self,
        value: int = _ONE,
        *,
        name: str | None = None,
        _address: tuple[Any, ...] | None = None,
    ) -> None:
        check_made_with(self, "value", value, self._initial())
        check_made_with(self, "name", name, self.name)

    def _keywords(self) -> dict[str, Any]:
        return {"value": self._initial()}


@public
class BoundedSemaphore(Semaphore):
    """A semaphore that cannot be released more often than it was acquired.

    Arguments and errors are those of `Semaphore`.

    Example:
        >>> permits = mh.BoundedSemaphore(1)
        >>> permits.release()
        Traceback (most recent call last):
        ...
        manyhands.ReleaseError: Semaphore released too many times
    """

    __slots__ = ()

    _bounded = True
