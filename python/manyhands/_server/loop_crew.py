"""The event loops of a server, as `serve_forever` has them: begun, watched and ended."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, wait
from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._pool.coroutine import CoroutinePoolExecutor
from manyhands._server.crew import LAST_WORDS_S, Crew
from manyhands._server.served_loop import ServedLoop

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from manyhands._future.future import Future
    from manyhands._server.open_connections import OpenConnections
    from manyhands._server.served_loop import LoopService

__all__ = ["LoopCrew"]

# A loop that is held up for so long is reported: all its clients wait.
STALL_S = 0.1
# How often it is noted how many have been.
LOOK_S = 1.0


class LoopCrew(Crew):
    """Event loops that serve one listener, each in a thread, for one run of `serve_forever`.

    Args:
        listening: the listener.
        pool: the executor whose loops these are; or makes an event loop, for loops of their own;
            None for asyncio's.
        service: what is done with each connection.
        connections: what has become of connections.
        ledger: where it is counted what happens.
        limits: what else the engine is made with, and how many loops there are.
        overflow: what tells those who are refused, if it is a function.
        stuck_after: after how many seconds a loop is reported that is held up, but after
            `STALL_S` if it is more; None: never.
        server: what is named in messages.
        on_ready: called once, when clients are served from now on.
    """

    _engine: _native.LoopEngine

    def __init__(
        self,
        listening: socket.socket,
        pool: Executor | Callable[[], Any] | None,
        service: LoopService,
        connections: OpenConnections,
        ledger: _native.ServerLedger,
        limits: dict[str, Any],
        overflow: object,
        stuck_after: float | None,
        server: object,
        on_ready: Callable[[], None],
    ) -> None:
        loops = limits.pop("workers")
        self._watches = stuck_after is not None
        engine = _native.LoopEngine(ledger=ledger, tells=callable(overflow), **limits)
        super().__init__(engine, listening, connections, ledger, overflow, server, on_ready)
        kind = ServedLoop
        if limits["longest"] is not None:
            from manyhands._server.datagram_loop import DatagramLoop

            kind = DatagramLoop
        self._loops = [kind(engine, service, connections) for _ in range(loops)]
        self._serving: list[Future[None]] = []
        self._is_lent = isinstance(pool, Executor)
        self._executor: Any = pool
        if not self._is_lent:
            self._executor = CoroutinePoolExecutor(
                loops,
                # One each; more if others of them cannot be had.
                loops,
                pool,  # type: ignore[arg-type] # it is none
                thread_name_prefix=f"mh-server-{listening.getsockname()}",
                stall_after=min(stuck_after, STALL_S) if stuck_after else None,
            )
        self._stalls_before = self._executor.statistics()["stalls"]

    def is_one_of_them(self) -> bool:
        """Tell whether the calling thread runs one of the loops."""
        here = threading.get_ident()
        return any(each.thread == here for each in self._loops)

    def counts(self) -> dict[str, int]:
        """Return what has been counted in this run."""
        self._note_stalls()
        return super().counts()

    def _begin(self) -> None:
        self._serving = [self._executor.submit(each.serve) for each in self._loops]
        for each, future in zip(self._loops, self._serving, strict=True):
            each.await_begin(future)
            future.add_done_callback(lambda _: self.ask())

    def _start(self, missing: int) -> None:
        """Start none: each loop serves as many connections as there are."""

    def _look(self) -> float | None:
        self._note_stalls()
        for serving in self._serving:
            if serving.done():
                # Its loop has ended, or somebody has cancelled what its executor does.
                serving.result()
        return LOOK_S if self._watches else None

    def _note_stalls(self) -> None:
        stalls = self._executor.statistics()["stalls"] - self._stalls_before
        self._ledger.set("stuck", stalls)

    def _still_served(self) -> int:
        return self._ledger.counts()["active"]

    def _end_connections(self, only_idle: bool) -> None:
        for each in self._loops:
            each.end_connections(only_idle)

    def _leave(self) -> None:
        for each in self._loops:
            each.stop()
        # A handler that neither returns nor waits is not waited for.
        _, late = wait(self._serving, LAST_WORDS_S)
        if not self._is_lent:
            self._executor.shutdown(wait=not late)
