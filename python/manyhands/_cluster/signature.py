"""The call of a task as a value: what chains, groups and callbacks are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from manyhands._cluster.sender import the_sender

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manyhands._future.future import Future

__all__ = ["Chain", "Signature"]


@dataclass(frozen=True, slots=True)
class Signature:
    """A task with its arguments, to be sent at another time.

    Attributes:
        task: the task's name.
        args: the arguments.
        kwargs: the keyword arguments.
        options: those of `Task.apply_async`.
        immutable: whether it gets nothing of what has come before it.
    """

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False

    def __or__(self, other: Signature | Chain) -> Chain:
        return Chain((self,)) | other

    def delay(self) -> Future[Any]:
        """Have a worker of the fleet run it; return its `Future`.

        Raises:
            RuntimeError: no `ClusterExecutor` is open.
        """
        return Chain((self,)).delay()

    def as_dict(self) -> dict[str, Any]:
        """Return it as messages of Celery's protocol carry it."""
        return {
            "task": self.task,
            "args": [*self.args],
            "kwargs": {**self.kwargs},
            "options": {**self.options},
            "subtask_type": None,
            "immutable": self.immutable,
        }


@dataclass(frozen=True, slots=True)
class Chain:
    """Calls of which each gets the result of the one before as its first argument.

    Made by ``|``. Workers, Celery's or ours, pass it on from one to the next: whoever has sent it
    need not live. If one fails, those after it are not run, and the result is that exception.

    Attributes:
        steps: the calls.

    Example:
        >>> chain = add.signature(2, 3) | double.signature()
        >>> chain.delay().result()
        10
    """

    steps: tuple[Signature, ...]

    def __or__(self, other: Signature | Chain) -> Chain:
        more = other.steps if isinstance(other, Chain) else (other,)
        return Chain(self.steps + more)

    def delay(self) -> Future[Any]:
        """Have workers of the fleet run it; return the `Future` of the last result.

        Raises:
            RuntimeError: no `ClusterExecutor` is open.
        """
        return the_sender("a chain").send_chain(self)
