"""What sends tasks where nothing else is said: the `ClusterExecutor` opened last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from manyhands._future.future import Future

    class Sender(Protocol):
        """What sends tasks: a `ClusterExecutor`."""

        def send(
            self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
        ) -> Future[Any]:
            """Publish a task; `options` are those of `Task.apply_async`."""

        def send_chain(self, chain: Any) -> Future[Any]:
            """Publish the first of several tasks, which names the others."""

        def _is_shut_down(self) -> bool:
            """Say whether it takes no more tasks."""


__all__ = ["send_by", "the_sender"]

_senders: Final[list[ref[Sender]]] = []


def send_by(sender: Sender) -> None:
    """Have what says nothing else be sent by this executor, until it is shut down."""
    _senders[:] = [known for known in _senders if known() is not None]
    _senders.append(ref(sender))


def the_sender(what: str) -> Sender:
    """Return the executor that was opened last and is not shut down.

    Args:
        what: what it is for, for the error.

    Raises:
        RuntimeError: there is none.
    """
    for known in reversed(_senders):
        sender = known()
        if sender is not None and not sender._is_shut_down():
            return sender
    raise RuntimeError(f"{what} cannot be sent: open a ClusterExecutor first, which says where to")
