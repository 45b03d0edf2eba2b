"""Threads that are workers: how they are started, set up and waited for."""

from __future__ import annotations

import os
import threading
from concurrent.futures._base import LOGGER
from contextvars import Context
from itertools import count
from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._interpreter import own_place
from manyhands._interpreter.import_lock import imports_let_through
from manyhands._interpreter.living import Living
from manyhands._interpreter.sure_thread import SureThread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Crew", "crews"]

_JOIN_SLICE = 0.2  # seconds between two looks at signals
_BROKEN = "A thread initializer failed, the thread pool is not usable anymore"


class Crew:
    """The threads of one executor, and how they are started.

    It is alive as long as the executor or one of the threads is, and refers to neither.
    """

    def __init__(
        self,
        name_prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        finalizer: Callable[[], object] | None,
    ) -> None:
        self.threads: set[SureThread] = set()
        self.initializer = initializer
        self.initargs = initargs
        self.finalizer = finalizer
        # Zero for the first one that fails, which is the one that says so.
        self.failures = count()
        self._name_prefix = name_prefix

    def start(self, worker: _native.ThreadWorker) -> None:
        """Start the thread of `worker`. Called by Rust, in any thread."""
        name = f"{self._name_prefix}_{worker.number}"
        thread = SureThread(name=name, target=_work, args=(self, worker))

        def failed(cause: BaseException) -> None:
            self.threads.discard(thread)
            worker.fail_to_begin(cause)

        # The first is waited for: without any, whoever submits must hear of it. And some task has
        # begun when the pool is closed, as in the standard library.
        is_first = all(other.is_coming for other in list(self.threads))
        self.threads.add(thread)  # it takes itself out at its end
        try:
            if is_first:
                thread.start()
                if self.initializer is None:  # which may take long
                    worker.await_arrival()
            else:
                thread.begin(failed)
        except BaseException:
            self.threads.discard(thread)
            raise

    def join(self) -> None:
        """Wait until all threads have ended, those too that tasks start in the meantime."""
        with imports_let_through():
            while alive := [thread for thread in list(self.threads) if thread.is_alive()]:
                for thread in alive:
                    # In slices: a signal that comes right before CPython falls asleep does not
                    # wake it.
                    thread.join(_JOIN_SLICE)


def _work(crew: Crew, worker: _native.ThreadWorker) -> None:
    """Be a worker: what each thread runs."""
    thread = threading.current_thread()
    own_place.be_worker(worker.number)
    try:
        if _set_up(crew, worker):
            try:
                worker.run(thread)
            finally:
                _tear_down(crew)
    except BaseException:
        LOGGER.critical("Exception in worker", exc_info=True)
    finally:
        worker.dismiss()
        # Whoever closes the pool walks through the set.
        if not worker.closing:
            crew.threads.discard(thread)


def _set_up(crew: Crew, worker: _native.ThreadWorker) -> bool:
    if crew.initializer is None:
        return True
    # Not in the thread's own, which may be a copy of its maker's.
    base = Context()
    try:
        base.run(crew.initializer, *crew.initargs)
    except BaseException:
        if next(crew.failures) == 0:
            LOGGER.critical("Exception in initializer:", exc_info=True)
        worker.break_pool(_BROKEN)
        return False
    if base:
        worker.use_base(base)
    return True


def _tear_down(crew: Crew) -> None:
    if crew.finalizer is None:
        return
    try:
        crew.finalizer()
    except BaseException:
        LOGGER.critical("Exception in finalizer:", exc_info=True)


crews: Living[Crew] = Living()


def _at_exit() -> None:
    # Nothing more can be submitted; what is queued is done first, as in the standard library.
    try:
        _native.close_thread_pools()
    finally:  # a signal handler may raise
        for crew in crews:
            crew.join()
        _native.stop_deadlines()


def _after_fork_in_child() -> None:
    for crew in crews:
        crew.threads.clear()
    _native.restart_thread_pools()


# Runs before the interpreter joins its threads, which is before anything of `atexit`.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork_in_child)
