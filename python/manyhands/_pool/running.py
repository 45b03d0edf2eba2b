"""A pool of worker processes that has been started."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from manyhands._interpreter.import_lock import imports_let_through
from manyhands._interpreter.sure_thread import SureThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyhands import _native
    from manyhands._future.future import Future
    from manyhands._task.options import TaskOptions
    from manyhands._worker.start_state import StartState

__all__ = ["Running", "ending", "stop_all", "terminate_all"]

T = TypeVar("T")

_JOIN_SLICE: Final = 0.2  # seconds between two looks at signals

# Pools whose executor was dropped, or shut down without waiting, and that have not ended yet.
ending: set[Running] = set()


class Running:
    """A started pool: the engine and its collector thread. Knows nothing of its executor, so that
    an executor which nobody uses any more can be collected while tasks still run."""

    def __init__(self, engine: _native.ProcessEngine, state: StartState | None) -> None:
        self.engine = engine
        self.state = state  # of the program at the start, if its workers follow changes
        self.has_ended = False
        self.collector: threading.Thread | None = None

    def start(self, prepare: bool) -> None:
        """Start the collector, and with `prepare` what starts workers: a task is on its way."""
        collector = SureThread(target=self._collect, name="manyhands-collector", daemon=True)
        collector.start()
        # Not before: one that could not be started would keep the engine, in a circle with it.
        self.collector = collector
        if prepare:
            self.engine.prepare()

    def _collect(self) -> None:
        self.engine.collect()
        # In this order, so that `close`, which looks in the other one, never leaves it in the set.
        self.has_ended = True
        ending.discard(self)

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future[Any] | None = None,
    ) -> Future[T]:
        return self.engine.submit_with(
            fn,
            args,
            kwargs,
            timeout=options.timeout,
            retries=options.retries,
            retry_on=options.retry_on,
            pauses=options.pauses(),
            priority=options.priority,
            name=options.name,
            future=future,
        )

    def _give_back(self) -> None:
        self.engine.give_back()

    def close(self) -> None:
        ending.add(self)
        self.engine.close()
        # Also those at whose end a signal handler has raised, before they were taken out.
        for running in list(ending):
            if running.has_ended or running.collector is None:
                ending.discard(running)

    def join(self) -> None:
        """Wait until the pool has ended and every future is done; Ctrl-C interrupts it."""
        with imports_let_through():
            while not self.engine.join(_JOIN_SLICE):
                pass
            collector = self.collector
            if collector is not None and collector is not threading.current_thread():
                # In slices: a signal that comes right before CPython falls asleep does not wake it.
                while collector.is_alive():
                    collector.join(_JOIN_SLICE)
        ending.discard(self)


def stop_all(started: Sequence[Running]) -> None:
    """Ask all running tasks to stop, and end; whoever interrupts this has them killed.

    All pools are asked before any is waited for: their tasks share one grace.
    """
    ending.update(started)
    try:
        for running in started:
            running.engine.stop()
        for running in started:
            running.join()
    except BaseException:
        terminate_all(started)
        raise


def terminate_all(started: Sequence[Running]) -> None:
    """Kill all workers, cancel every unfinished future, and wait for the end."""
    ending.update(started)
    for running in started:
        running.engine.terminate()
    for running in started:
        running.join()
