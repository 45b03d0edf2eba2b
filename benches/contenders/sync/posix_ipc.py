"""posix_ipc: POSIX semaphores as they are."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from benches.contenders.sync.multiprocessing import DEATH
from benches.primitives import Primitives

if TYPE_CHECKING:
    from benches.contender import Kind


class PosixIpc(Primitives):
    """`posix_ipc.Semaphore`, of value 1 in the place of a lock."""

    distribution = "posix_ipc"
    labels: ClassVar[dict[Kind, str]] = {
        "lock": "posix_ipc.Semaphore",
        "semaphore": "posix_ipc.Semaphore",
    }
    usage: ClassVar[dict[str, str]] = {
        "lock": "`Semaphore(None, O_CREX, initial_value=n)`, unlinked at once",
        "queue": "not measured: a POSIX message queue holds ten messages by default, of bytes only",
    }
    sits_out: ClassVar[dict[str, str]] = {
        "owner_death": DEATH,
        "owner_death_fallback": DEATH,
    }
    # Every one is a mapping of its own, and a process has 65,530 of them by default.
    most_locks = 20_000

    def __init__(self) -> None:
        self._library = importlib.import_module("posix_ipc")

    def make(self, kind: Kind, *arguments: Any) -> Any:
        """Return a new semaphore that ends with the processes that have it."""
        value = 1 if kind == "lock" else arguments[0]
        found = self._library.Semaphore(None, self._library.O_CREX, initial_value=value)
        found.unlink()
        return found
