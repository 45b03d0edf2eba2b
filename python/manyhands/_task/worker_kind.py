"""The kinds of worker, and what tells them apart.

Where code has to know what workers can do, it asks for that and not for the kind: a further kind is
one row here, one executor, and one line in `manyhands._pool.shared`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CLUSTER", "COROUTINE", "GREENLET", "PROCESS", "THREAD", "WorkerKind"]


class WorkerKind(NamedTuple):
    """What a kind of worker is like.

    Attributes:
        name: what users call it, as in ``workers="thread"``.
        ships_functions: whether functions and arguments are pickled on their way.
        is_cheap: whether handing out a task costs so little that items go one by one.
        ends_tasks: whether a running task can be ended from outside.
        awaits: whether tasks wait elsewhere, in an event loop or on other machines; so each call is
            one task.
        names_functions: whether a function goes by name, so that its name may stand for it.
    """

    name: str
    ships_functions: bool
    is_cheap: bool
    ends_tasks: bool
    awaits: bool
    names_functions: bool = False


THREAD: Final = WorkerKind(
    "thread", ships_functions=False, is_cheap=True, ends_tasks=False, awaits=False
)
PROCESS: Final = WorkerKind(
    "process", ships_functions=True, is_cheap=False, ends_tasks=True, awaits=False
)
COROUTINE: Final = WorkerKind(
    "coroutine", ships_functions=False, is_cheap=True, ends_tasks=True, awaits=True
)
GREENLET: Final = WorkerKind(
    "greenlet", ships_functions=False, is_cheap=True, ends_tasks=True, awaits=True
)
# Each call is one message, and its worker has the function under a name.
CLUSTER: Final = WorkerKind(
    "cluster",
    ships_functions=False,
    is_cheap=True,
    ends_tasks=True,
    awaits=True,
    names_functions=True,
)
