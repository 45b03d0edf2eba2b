"""What serves a listener in this process, as `serve_forever` has it: begun, watched and ended."""

from __future__ import annotations

import abc
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands import _native
    from manyhands._server.open_connections import OpenConnections

__all__ = ["Crew"]

logger = logging.getLogger("manyhands.server")

# How often to look for connections that have become idle, while a server ends.
IDLE_LOOK_S = 0.05
# How long handlers have once their connections have been ended.
LAST_WORDS_S = 0.04


class Crew(abc.ABC):
    """Workers that serve one listener, for one run of `serve_forever`.

    Args:
        engine: what accepts connections, and hands them to the workers.
        listening: the listener.
        connections: what has become of connections.
        ledger: where it is counted what happens.
        overflow: what tells those who are refused, if it is a function.
        server: what is named in messages.
        on_ready: called once, when clients are served from now on.
    """

    def __init__(
        self,
        engine: _native.ServerEngine | _native.LoopEngine,
        listening: socket.socket,
        connections: OpenConnections,
        ledger: _native.ServerLedger,
        overflow: object,
        server: object,
        on_ready: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._listening = listening
        self._open = connections
        self._ledger = ledger
        self._overflow = overflow
        self._server = server
        self._on_ready = on_ready
        self.ask = engine.ask

    def counts(self) -> dict[str, int]:
        """Return what has been counted in this run."""
        return self._ledger.counts()

    def report(self) -> list[dict[str, Any]]:
        """Return how its processes are: it has none."""
        return []

    @abc.abstractmethod
    def _begin(self) -> None:
        """Have workers, before the first connection is accepted."""

    @abc.abstractmethod
    def _start(self, missing: int) -> None:
        """Start so many workers more."""

    @abc.abstractmethod
    def _look(self) -> float | None:
        """Look after connections; return after how many seconds to look again, None for never."""

    @abc.abstractmethod
    def _still_served(self) -> int:
        """Return how many connections are being served."""

    @abc.abstractmethod
    def _end_connections(self, only_idle: bool) -> None:
        """End connections whose handlers wait for another request, or all."""

    @abc.abstractmethod
    def _leave(self) -> None:
        """Part with workers; report handlers that are still running."""

    def attend(self, is_over: Callable[[], bool]) -> None:
        """Accept connections until it is over.

        Raises:
            OSError: nothing can be accepted any more.
        """
        self._begin()
        self._engine.accept(self._listening.fileno())
        self._ledger.serves()
        self._on_ready()
        while not is_over():
            trouble, _ = self._listen(self._look())
            if trouble is not None:
                text, for_good = trouble
                if for_good:
                    raise OSError(f"{self._server!r} cannot accept connections any more: {text}")
                logger.warning(
                    "%r accepts nothing for a while: %s; clients wait in its queue",
                    self._server,
                    text,
                )

    def drain(self, grace: float, wished: Callable[[], float | None]) -> None:
        """End accepting, and what is served once `grace` seconds are over, or fewer if wished.

        An exception of a signal's handler, such as a second KeyboardInterrupt, ends all at once.
        """
        try:
            self._await_ends(grace, wished)
        except BaseException:
            self._engine.end(drain=False)
            self._end_connections(only_idle=False)
            raise
        finally:
            self._leave()

    def _await_ends(self, grace: float, wished: Callable[[], float | None]) -> None:
        self._ledger.ends()
        dropped = self._engine.end(drain=grace > 0)
        deadline = time.monotonic() + grace
        ended_all = False
        while True:
            left = deadline - time.monotonic()
            if left > 0:
                self._end_connections(only_idle=True)
            elif not ended_all:
                ended_all = True
                dropped += self._engine.end(drain=False)
                self._end_connections(only_idle=False)
                left = LAST_WORDS_S
                deadline = time.monotonic() + left
            else:
                break
            _, drained = self._listen(min(left, IDLE_LOOK_S) if self._still_served() else left)
            if drained:
                break
            asked = wished()
            if asked is not None and asked < grace:
                grace, deadline = asked, min(deadline, time.monotonic() + asked)
        still = self._still_served()
        if still or dropped:
            logger.warning(
                "%r has ended with %d connections unserved and %d handlers still running",
                self._server,
                dropped,
                still,
            )

    def _listen(self, timeout: float | None) -> tuple[tuple[str, bool] | None, bool]:
        """Wait until the engine wants something, and do it.

        Returns:
            What is wrong with accepting, and whether that is for good; whether nobody is inside any
            more.
        """
        starts, refused, trouble, drained = self._engine.wait(timeout)
        self._start(starts)
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
