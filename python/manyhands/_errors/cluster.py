"""The errors of tasks that a cluster runs, and of the way there."""

from __future__ import annotations

from manyhands._errors.base import ManyhandsError

__all__ = ["BrokerError", "RemoteError"]


class BrokerError(ManyhandsError, ConnectionError):
    """The broker cannot be reached, or does not take a task."""

    __module__ = "manyhands"


class RemoteError(ManyhandsError):
    """A task on another machine has raised what is not known in this program.

    Attributes:
        kind: module and name of the exception's class, as its worker says.
        arguments: the arguments of the exception.
    """

    __module__ = "manyhands"

    def __init__(
        self, message: str = "", kind: str = "", arguments: tuple[object, ...] = ()
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.arguments = arguments

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.args[0], self.kind, self.arguments))
