"""The threads of a server, as `serve_forever` has them: started, watched and ended."""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Any

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._server.open_connections import OpenConnections
    from manyhands._server.thread_workers import ThreadWorkers

__all__ = ["ThreadCrew"]

logger = logging.getLogger("manyhands.server")

# How often to look for handlers that do not come back, while there are any.
LOOK_S = 1.0
# How often to look for connections that have become idle, while a server ends.
IDLE_LOOK_S = 0.05
# How long handlers have once their connections have been ended.
LAST_WORDS_S = 0.04


class ThreadCrew:
    """Threads that serve one listener, for one run of `serve_forever`.

    Args:
        listening: the listener.
        workers: the threads.
        connections: what they are serving.
        limits: what the engine is made with.
        overflow: what tells those who are refused, if it is a function.
        stuck_after: after how many seconds a handler is reported; None: never.
        server: what is named in messages.
        on_ready: called once, when clients are served from now on.
    """

    def __init__(
        self,
        listening: socket.socket,
        workers: ThreadWorkers,
        connections: OpenConnections,
        limits: dict[str, Any],
        overflow: object,
        stuck_after: float | None,
        server: object,
        on_ready: Callable[[], None],
    ) -> None:
        self._listening = listening
        self._workers = workers
        self._open = connections
        self._engine = _native.ServerEngine(tells=callable(overflow), **limits)
        self._overflow = overflow
        self._stuck_after = stuck_after
        self._server = server
        self._on_ready = on_ready
        self.ask = self._engine.ask
        self.counts = self._engine.counts

    def attend(self, is_over: Callable[[], bool]) -> None:
        """Accept connections, and start threads as they are needed, until it is over.

        Raises:
            OSError: nothing can be accepted any more.
        """
        self._engine.accept(self._listening.fileno())
        self._on_ready()
        while not is_over():
            trouble, _ = self._listen(self._open.next_look(LOOK_S if self._stuck_after else None))
            if trouble is not None:
                text, for_good = trouble
                if for_good:
                    raise OSError(f"{self._server!r} cannot accept connections any more: {text}")
                logger.warning(
                    "%r accepts nothing for a while: %s; clients wait in its queue",
                    self._server,
                    text,
                )
            self._open.end_late()
            if self._stuck_after is not None:
                self._workers.report_stuck(self._stuck_after)

    def drain(self, grace: float, wished: Callable[[], float | None]) -> None:
        """End accepting, and what is served once `grace` seconds are over, or fewer if wished.

        An exception of a signal's handler, such as a second KeyboardInterrupt, ends all at once.
        """
        try:
            self._await_ends(grace, wished)
        except BaseException:
            self._engine.end(drain=False)
            self._open.end_all()
            raise

    def _await_ends(self, grace: float, wished: Callable[[], float | None]) -> None:
        dropped = self._engine.end(drain=grace > 0)
        deadline = time.monotonic() + grace
        ended_all = False
        while True:
            left = deadline - time.monotonic()
            if left > 0:
                self._open.end_idle()
            elif not ended_all:
                ended_all = True
                dropped += self._engine.end(drain=False)
                self._open.end_all()
                left = LAST_WORDS_S
                deadline = time.monotonic() + left
            else:
                break
            _, drained = self._listen(min(left, IDLE_LOOK_S) if self._open else left)
            if drained:
                break
            asked = wished()
            if asked is not None and asked < grace:
                grace, deadline = asked, min(deadline, time.monotonic() + asked)
        still = len(self._open)
        if still or dropped:
            logger.warning(
                "%r has ended with %d connections unserved and %d handlers still running",
                self._server,
                dropped,
                still,
            )
            self._workers.report_stuck(0.0)

    def _listen(self, timeout: float | None) -> tuple[tuple[str, bool] | None, bool]:
        """Wait until the engine wants something, and do it.

        Returns:
            What is wrong with accepting, and whether that is for good; whether nobody is inside any
            more.
        """
        starts, refused, trouble, drained = self._engine.wait(timeout)
        self._workers.start(self._engine, starts)
        for fd, address in refused:
            self._refuse(fd, address)
        return trouble, drained

    def _refuse(self, fd: int, address: Any) -> None:
        """Have the user's function say why a connection is not served."""
        listening = self._listening
        with socket.socket(listening.family, listening.type, 0, fileno=fd) as connection:
            connection.settimeout(1.0)
            try:
                self._overflow(connection, address)  # type: ignore[operator]
            except OSError as error:
                logger.debug("a refused client at %s has not been told: %s", address, error)
            except Exception:
                logger.exception("overflow %r failed for %s", self._overflow, address)
