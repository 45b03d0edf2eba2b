"""Event loops in threads, and the calls that they share: what is behind an executor."""

from __future__ import annotations

import os
import threading
import traceback
from concurrent.futures import BrokenExecutor
from concurrent.futures._base import LOGGER
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import ref

from manyhands import _native
from manyhands._coroutine.backlog import Backlog
from manyhands._coroutine.call import Call
from manyhands._coroutine.event_loop import LoopThread
from manyhands._coroutine.stalls import StallWatch
from manyhands._future.future import Future  # noqa: TC001 - registers the class of futures
from manyhands._interpreter.living import Living
from manyhands._pickle.own_settings import own_context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from manyhands._task.options import TaskOptions

__all__ = ["Loops"]

T = TypeVar("T")

_JOIN_SLICE: Final = 0.2  # seconds between two looks at signals
# A loop that has not answered for so many seconds gets no calls while another one answers.
_LATE: Final = 0.005
_BROKEN: Final = "A loop's initializer failed, the coroutine pool is not usable anymore"
_REFUSED: Final = "cannot schedule new futures after shutdown"


class Loops:
    """The event loops of one executor. Knows nothing of it, so that one which nobody uses any more
    can be collected while its tasks still run.

    Args:
        most: how many loops there may be.
        max_tasks: how many calls each of them runs at a time.
        loop_factory: makes an event loop, or None.
        prefix: what the threads' names begin with.
        initializer: called in each thread before its first call.
        initargs: its arguments.
        finalizer: called in each thread at its end.
        stall_after: seconds after which a loop that does not answer is reported, or None.
        run_plain: calls plain functions as greenlets; None where all functions are awaited.
    """

    def __init__(
        self,
        most: int,
        max_tasks: int,
        loop_factory: Callable[[], Any] | None,
        prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        finalizer: Callable[[], object] | None,
        stall_after: float | None,
        run_plain: Callable[..., Coroutine[Any, Any, Any]] | None,
    ) -> None:
        self.most = most
        self.max_tasks = max_tasks
        self.loop_factory = loop_factory
        self.prefix = prefix
        self.initializer = initializer
        self.initargs = initargs
        self.finalizer = finalizer
        self.stall_after = stall_after
        self.run_plain = run_plain
        self.broken: str | None = None
        self.is_closed = False
        self.counts = dict.fromkeys(("done", "failed", "retried"), 0)
        this = ref(self)
        self.tasks = _native.PythonTasks(
            lambda token, runs: _ask(this, token, runs),
            "coroutine" if run_plain is None else "greenlet",
        )
        self._last_token = 0
        self._begin()
        every.add(self)

    def _begin(self) -> None:
        # Reentrant: a signal handler, or a finalizer, may submit.
        self._lock = threading.RLock()
        self._calls: dict[int, Call] = {}
        self._backlog = Backlog()
        self._promised = 0
        # Of calls that are there to come, and keep the loops although the pool is closed.
        self._reserved = 0
        self.threads: list[LoopThread] = []
        self._watch: StallWatch | None = None

    # For the executor.

    def submit(
        self,
        options: TaskOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future[Any] | None = None,
    ) -> Future[Any]:
        """Schedule a call; `future` is that of one that was announced, or None."""
        if not callable(fn):
            raise TypeError(f"submit() needs a callable, not {type(fn).__name__}")
        context = own_context()
        with self._lock:
            self._check_open(announced=future is not None)
            token = self._last_token = self._last_token + 1
            if future is None:
                future = self.tasks.future(token)
            elif not self.tasks.adopt(future, token):
                return future
            call = Call(token, future, options, fn, args, kwargs, context)
            self._calls[token] = call
            self._backlog.push(call)
            try:
                loop = self._promise()
            except BaseException:
                self._drop(call)
                raise
        if loop is not None:
            loop.wake()
            arrival = loop.arrival
            if arrival is not None:
                # As in the standard library, something has begun when the pool is closed.
                arrival.wait()
        return future

    def _submit(
        self,
        options: TaskOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future[Any] | None = None,
    ) -> Future[T]:
        return self.submit(options, fn, args, kwargs, future)

    def reserve(self) -> Loops:
        """Announce a call: it is taken even if the pool is closed before."""
        with self._lock:
            self._check_open(announced=False)
            self._reserved += 1
        return self

    def _give_back(self) -> None:
        with self._lock:
            self._reserved -= 1
        self._stop_if_done()

    def resize(self, max_tasks: int) -> None:
        """Have each loop run so many calls at a time."""
        with self._lock:
            self.max_tasks = max_tasks
            woken = set()
            while self._backlog.waiting > self._promised:
                loop = self._promise()
                if loop is None:
                    break
                woken.add(loop)
        for loop in woken:
            loop.wake()

    def close(self) -> None:
        """Take no more calls; loops end when there is nothing left to do."""
        self.is_closed = True
        self._stop_if_done()

    def cancel(self, running: bool) -> None:
        """Cancel what waits, and with `running` what runs."""
        with self._lock:
            calls = [call for call in self._calls.values() if running or not call.is_under_way()]
        for call in calls:
            call.future.cancel()

    def join(self) -> None:
        """Wait until all threads have ended."""
        here = threading.current_thread()
        watch = self._watch
        threads = [loop.thread for loop in self.threads]
        if watch is not None:
            threads.append(watch.thread)
        for thread in threads:
            # In slices: a signal that comes right before CPython falls asleep does not wake it.
            while thread is not here and thread.is_alive():
                thread.join(_JOIN_SLICE)

    def size(self) -> tuple[int, int]:
        """Return how many loops there are, and how many calls that have not ended."""
        return len(self.threads), len(self._calls)

    def statistics(self) -> dict[str, Any]:
        """Return what `Executor.statistics` describes."""
        now = monotonic()
        workers, stalls = [], 0
        with self._lock:
            running = sum(len(loop.calls) for loop in self.threads)
            queued = len(self._calls) - running + self._reserved
            for loop in self.threads:
                oldest = next(iter(loop.calls.values()), None)
                name = None if oldest is None else oldest.name()
                seconds = None if oldest is None else now - (oldest.began or now)
                worker = self.tasks.worker_statistics(loop.thread, name, seconds, loop.ended)
                worker["tasks_running"] = len(loop.calls)
                worker["stalls"] = loop.stalls
                stalls += loop.stalls
                workers.append(worker)
            found = self.tasks.statistics(workers, queued, running, *self.counts.values())
        found["stalls"] = stalls
        return found

    # For the loops.

    def hand_out(self, loop: LoopThread) -> Call | None:
        """Return what a loop must begin next, of what has been promised to it.

        Not several at a time: the first of them may block the loop, and the others then go to
        another one.
        """
        if not loop.promised:
            return None
        with self._lock:
            if not loop.promised:
                return None
            call = self._backlog.pop()
            if call is None:
                self._promised -= loop.promised
                loop.promised = 0
                return None
            loop.promised -= 1
            self._promised -= 1
            call.loop = loop
            loop.calls[call.token] = call
            return call

    def leave(self, loop: LoopThread, call: Call, how: str) -> None:
        """Note that a loop runs a call no more, and why; have it take the next."""
        with self._lock:
            del loop.calls[call.token]
            if how in self.counts:
                self.counts[how] += 1
            is_over = how != "retried"
            if is_over:
                loop.ended += how != "withdrawn"
                self._calls.pop(call.token, None)
                call.let_go()
            if self._backlog.waiting > self._promised and loop.load() < self.max_tasks:
                loop.promised += 1
                self._promised += 1
        if is_over and self.is_closed:
            self._stop_if_done()

    def queue_again(self, call: Call) -> None:
        """Put a call that has failed back, for its next attempt."""
        with self._lock:
            call.loop = None
            self._backlog.push(call)
            loop = self._promise()
        if loop is not None:
            loop.wake()

    def forget(self, call: Call) -> None:
        """Drop a call whose next attempt will never begin."""
        with self._lock:
            self._calls.pop(call.token, None)
            call.let_go()
        self._stop_if_done()

    def break_down(self, error: BaseException) -> None:
        """Fail what waits: a loop could not be set up."""
        with self._lock:
            first, self.broken = self.broken is None, _BROKEN
            calls = [call for call in self._calls.values() if not call.is_under_way()]
            for call in calls:
                self._drop(call)
            self.is_closed = True
        if first:
            self.complain("Exception in initializer:", error)
        for call in calls:
            self._fail(call, BrokenExecutor(_BROKEN))
        self._stop_if_done()

    def lose(self, loop: LoopThread, error: BaseException) -> None:
        """Fail what a loop ran that has ended by itself, and what waits if it was the last."""
        self.complain("Exception in event loop:", error)
        error.__traceback__ = None
        with self._lock:
            self.threads = [other for other in self.threads if other is not loop]
            self._promised -= loop.promised
            loop.promised = 0
            loop.calls.clear()
            lost = [
                call
                for call in self._calls.values()
                if call.loop is loop or (call.loop is None and not self.threads)
            ]
            for call in lost:
                self._drop(call)
            heirs = self._promise_to_others()
        for heir in heirs:
            heir.wake()
        for call in lost:
            broken = BrokenExecutor(f"the event loop of this task has ended: {error!r}")
            broken.__cause__ = error
            self._fail(call, broken)
        self._stop_if_done()

    def complain(self, text: str, error: BaseException) -> None:
        """Log what no future can tell."""
        # As text: a record is kept for long, and a traceback keeps what its frames have.
        shown = "".join(traceback.format_exception(error))
        LOGGER.critical("%s\n%s", text, shown)

    # For the watch.

    def pass_on(self) -> None:
        """Promise to others what was promised to loops that do not answer."""
        woken = set()
        with self._lock:
            now = monotonic()
            for late in [loop for loop in self.threads if loop.promised and _is_late(loop, now)]:
                for _ in range(late.promised):
                    loop = self._best(now)
                    if loop is None or loop is late or _is_late(loop, now):
                        break
                    late.promised -= 1
                    loop.promised += 1
                    woken.add(loop)
        for loop in woken:
            loop.wake()

    # Under the lock.

    def _check_open(self, announced: bool) -> None:
        if self.broken is not None:
            raise BrokenExecutor(self.broken)
        if (self.is_closed and not announced) or _is_exiting:
            raise RuntimeError(_REFUSED)

    def _promise(self) -> LoopThread | None:
        """Say which loop takes what was put into the backlog; none if all have enough to do."""
        now = monotonic() if self.most > 1 else 0.0
        loop = self._best(now)
        if loop is None or (len(self.threads) < self.most and (loop.load() or _is_late(loop, now))):
            loop = self._start() or loop
        if loop is None or loop.load() >= self.max_tasks:
            return None
        loop.promised += 1
        self._promised += 1
        if self._watch is not None:
            self._watch.begin()
        return loop

    def _promise_to_others(self) -> set[LoopThread]:
        """Promise what waits to loops that have room, and start none; return these."""
        heirs = set()
        while self._backlog.waiting > self._promised:
            loop = self._best(monotonic())
            if loop is None or loop.load() >= self.max_tasks:
                break
            loop.promised += 1
            self._promised += 1
            heirs.add(loop)
        return heirs

    def _best(self, now: float) -> LoopThread | None:
        if self.most == 1:
            return self.threads[0] if self.threads else None
        best = min(self.threads, key=lambda loop: (_is_late(loop, now), loop.load()), default=None)
        if best is None or best.load() < self.max_tasks:
            return best
        # It answers, but has no room.
        return min(self.threads, key=LoopThread.load)

    def _start(self) -> LoopThread | None:
        numbers = {loop.number for loop in self.threads}
        number = next(each for each in range(self.most) if each not in numbers)
        # An initializer may take long.
        is_awaited = not self.threads and self.initializer is None
        loop = LoopThread(self, number, _native.Latch() if is_awaited else None)
        try:
            loop.thread.start()
        except RuntimeError:
            if not self.threads:
                raise
            return None  # no memory for one more: the others do its work
        self.threads.append(loop)
        if self._watch is None and self.stall_after is not None:
            self._watch = StallWatch(self, self.stall_after)
        return loop

    def _drop(self, call: Call) -> None:
        if self._calls.pop(call.token, None) is not None and call.loop is None:
            self._backlog.waiting -= 1
        call.withdraw()

    def _fail(self, call: Call, error: BaseException) -> None:
        with self._lock:
            self.counts["failed"] += 1
        _native.LoopBell().fail(call.future, error, False)

    def _stop_if_done(self) -> None:
        with self._lock:
            if not self.is_closed or self._calls or self._reserved:
                return
            stopped = list(self.threads)
            for loop in stopped:
                loop.stops = True
            watch = self._watch
        for loop in stopped:
            loop.wake()
        if watch is not None:
            watch.stop()

    def ask(self, token: int, runs: bool) -> bool:
        """Have a call cancelled; say whether it will be."""
        with self._lock:
            call = self._calls.get(token)
            if call is None:
                return False
            loop = call.loop
            if loop is None:
                self._drop(call)
            elif runs:
                call.is_asked = True
        if loop is None:
            self._stop_if_done()
        elif runs:
            loop.order_cancel(call)
        return True

    def restart(self) -> None:
        """Begin again in the child of a fork, where the threads are not."""
        orphans = [call.future for call in self._calls.values()]
        # Closing a loop here would take descriptors out of the epoll that the parent uses, too.
        _of_parent.extend(self.threads)
        if self._watch is not None:
            _of_parent.append(self._watch)
        self._begin()
        for future in orphans:
            _native.PythonTasks.orphan(future)


def _is_late(loop: LoopThread, now: float) -> bool:
    return loop.bell.is_rung and now - loop.rung_at > _LATE


def _ask(this: ref[Loops], token: int, runs: bool) -> bool:
    pool = this()
    return pool is not None and pool.ask(token, runs)


every: Living[Loops] = Living()
_of_parent: list[object] = []
_is_exiting = False


def _at_exit() -> None:
    # Nothing more can be submitted; what is queued is done first, as in the standard library.
    global _is_exiting
    _is_exiting = True
    for pool in every:
        pool.close()
    for pool in every:
        pool.join()


def _after_fork_in_child() -> None:
    for pool in every:
        pool.restart()


# Runs before the interpreter joins its threads, which is before anything of `atexit`.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_after_fork_in_child)
