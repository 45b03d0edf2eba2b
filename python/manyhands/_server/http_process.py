"""One of the processes of a server whose connections an HTTP server of others serves."""

from __future__ import annotations

import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Self

    from manyhands import _native
    from manyhands._server.control_socket import ControlSocket

__all__ = ["LAST_WORDS_S", "LOOK_S", "PAUSE_S", "UNDER_WAY_S", "HttpProcess"]

logger = logging.getLogger("manyhands.server")

# How often to look for connections that have become idle, while a process ends.
LOOK_S = 0.05
# How long to leave the listener alone when nothing can be accepted.
PAUSE_S = 0.05
# How long the first words of a client may be under way when accepting ends.
UNDER_WAY_S = 1.0
# How often to count what has happened, if it does not have to be said more often that it answers.
COUNT_S = 1.0
# How long applications have once their connections have been ended.
LAST_WORDS_S = 0.1


class HttpProcess(ABC):
    """What one process serves, until when, and what it has counted.

    Args:
        listening: the listener, which all processes have.
        grace: seconds for what is being served when the process ends, unless `end_process` says.
    """

    control: ControlSocket
    inherited: _native.ServerLedger
    _beat_s: float | None = None

    def __init__(self, listening: socket.socket, grace: float) -> None:
        self._listening = listening
        self._grace = grace
        # When connections are ended, whatever they do; None while nobody has asked for the end.
        self._deadline: float | None = None
        self._accepted = self._disconnected = self._dropped = 0
        # Whether the last try to accept has failed.
        self._is_short = False
        self._counting = threading.Lock()
        self._is_over = threading.Event()
        # By a thread of its own: an application that computes for long does not stop it.
        self._beating = threading.Thread(target=self._beat, name="mh-beat", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._listening.close()

    @abstractmethod
    def serve_forever(self) -> None:
        """Serve, once the parent has been told that this is ready, until `end_process`."""

    def end_process(self, grace: float | None = None) -> None:
        """End serving, from any thread or a signal's handler; the shortest grace counts."""
        deadline = time.monotonic() + (self._grace if grace is None else grace)
        earlier = self._deadline
        self._deadline = deadline if earlier is None else min(earlier, deadline)
        self.inherited.ends()
        self._wake()

    def _begin(self) -> None:
        """Tell the parent that clients are served from now on."""
        self._beating.start()
        self.inherited.serves()
        self.control.tell(ready=True)

    def _finish(self) -> None:
        """Count for the last time: nothing is open any more."""
        self._is_over.set()
        if self._beating.ident is not None:
            self._beating.join()
        self._count(lambda: 0)

    def _beat(self) -> None:
        while not self._is_over.wait(min(COUNT_S, self._beat_s or COUNT_S)):
            self._count(self._active)
            self.inherited.answers()

    def _count(self, active: Callable[[], int]) -> None:
        """Write into the ledger what has been counted."""
        with self._counting:
            # First: what is accepted meanwhile is active, and has not been served.
            accepted = self._accepted
            still = active()
            ended = accepted - still - self._disconnected - self._dropped
            for name, number in (
                ("accepted", accepted),
                ("served", max(0, ended)),
                ("dropped", self._dropped),
                ("disconnected", self._disconnected),
                ("active", still),
                ("requests", self._requests()),
            ):
                self.inherited.set(name, number)

    @abstractmethod
    def _wake(self) -> None:
        """Have the serving thread look at the deadline."""

    @abstractmethod
    def _active(self) -> int:
        """Return how many connections are open."""

    @abstractmethod
    def _requests(self) -> int:
        """Return how many requests have been answered."""

    def _left(self) -> float:
        """Return how many seconds of grace are left."""
        return 0.0 if self._deadline is None else self._deadline - time.monotonic()

    def _note_accepted(self) -> None:
        """Count a connection, once it is among the active ones."""
        self._accepted += 1
        self._is_short = False
        self._count(self._active)

    def _note_not_accepted(self, error: OSError) -> None:
        """Say once what is missing, as descriptors: clients wait in the listener's queue."""
        if not self._is_short:
            self._is_short = True
            logger.warning("process %d accepts nothing for now: %s", os.getpid(), error)

    def _drop(self, number: int) -> None:
        """Note that so many connections are ended in the middle of what they do."""
        if number:
            self._dropped += number
            logger.warning("process %d ends with %d connections unserved", os.getpid(), number)
