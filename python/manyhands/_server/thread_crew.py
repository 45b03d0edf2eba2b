"""The threads of a server, as `serve_forever` has them: started, watched and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._server.crew import Crew

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from manyhands._server.open_connections import OpenConnections
    from manyhands._server.thread_workers import ThreadWorkers

__all__ = ["ThreadCrew"]

# How often to look for handlers that do not come back, while there are any.
LOOK_S = 1.0


class ThreadCrew(Crew):
    """Threads that serve one listener, for one run of `serve_forever`.

    Args:
        listening: the listener.
        workers: the threads.
        connections: what they are serving.
        ledger: where it is counted what happens.
        limits: what else the engine is made with.
        overflow: what tells those who are refused, if it is a function.
        stuck_after: after how many seconds a handler is reported; None: never.
        server: what is named in messages.
        on_ready: called once, when clients are served from now on.
    """

    _engine: _native.ServerEngine

    def __init__(
        self,
        listening: socket.socket,
        workers: ThreadWorkers,
        connections: OpenConnections,
        ledger: _native.ServerLedger,
        limits: dict[str, Any],
        overflow: object,
        stuck_after: float | None,
        server: object,
        on_ready: Callable[[], None],
    ) -> None:
        engine = _native.ServerEngine(ledger=ledger, tells=callable(overflow), **limits)
        super().__init__(engine, listening, connections, ledger, overflow, server, on_ready)
        self._workers = workers
        self._stuck_after = stuck_after

    def _begin(self) -> None:
        """Have none: they are started as they are needed."""

    def _start(self, missing: int) -> None:
        self._workers.start(self._engine, missing)

    def _look(self) -> float | None:
        self._open.end_late()
        if self._stuck_after is not None:
            self._workers.report_stuck(self._stuck_after)
        return self._open.next_look(LOOK_S if self._stuck_after else None)

    def _still_served(self) -> int:
        return len(self._open)

    def _end_connections(self, only_idle: bool) -> None:
        if only_idle:
            self._open.end_idle()
        else:
            self._open.end_all()

    def _leave(self) -> None:
        if self._still_served():
            self._workers.report_stuck(0.0)
