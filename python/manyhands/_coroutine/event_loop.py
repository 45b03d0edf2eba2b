"""One event loop in a thread of its own: takes calls out of the pool's backlog, and runs them."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from contextvars import Context
from functools import partial
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from manyhands import _native
from manyhands._coroutine.generator import awaited
from manyhands._errors.task_cancelled import TaskCancelled
from manyhands._interpreter import own_place
from manyhands._interpreter.sure_thread import SureThread
from manyhands._pickle.own_settings import lay_under
from manyhands._task.awaits import is_async

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from manyhands._coroutine.call import Call
    from manyhands._coroutine.call_source import CallSource

__all__ = ["LoopThread"]

# So many calls begin before the loop looks at its sockets and timers again.
_BATCH: Final = 256
# So often a loop with nothing else to do looks for calls, before it does so.
_ROUNDS: Final = 8


class LoopThread:
    """A worker of a pool of coroutines.

    Args:
        pool: where calls come from.
        number: its place in the pool.

    Attributes:
        calls: what it runs, by token, the oldest first.
        promised: how many calls of the backlog it has been told to take.
        ended: how many calls have ended here.
        stalls: how often it was held up by a call that blocks.
        asked_at: when it was asked for a sign of life that has not come yet; else 0.0.
        answered_at: when the last sign came.
        rung_at: when somebody rang who was the first to do so since it last answered.
        stops: whether it ends as soon as it looks.
        arrival: opened when it has taken its first call; None if nobody waits for that.
    """

    def __init__(self, pool: CallSource, number: int, arrival: _native.Latch | None) -> None:
        self.number = number
        self.calls: dict[int, Call] = {}
        self.promised = 0
        self.ended = 0
        self.stalls = 0
        self.asked_at = self.answered_at = self.rung_at = 0.0
        self.stops = False
        self.arrival = arrival
        self.bell = _native.LoopBell()
        self._pool = pool
        self._is_one_of_many = pool.most > 1
        self._orders: deque[Call] = deque()
        self._base: Context | None = None
        # Whether `_take`, or `_linger`, is among the callbacks that the loop calls next.
        self._will_take = self._will_linger = False
        self._takes = False
        self._loop: Any = None
        self._fd = self.bell.open()
        self.thread = SureThread(name=f"{pool.prefix}_{number}", target=self._work)

    # From other threads.

    def load(self) -> int:
        """Return how many calls it has or must take."""
        return len(self.calls) + self.promised

    def wake(self) -> None:
        """Have it look at what there is for it."""
        if self._is_one_of_many and not self.bell.is_rung:
            self.rung_at = monotonic()
        self.bell.ring()

    def order_cancel(self, call: Call) -> None:
        """Have it cancel a call that it runs."""
        self._orders.append(call)
        self.wake()

    # In its own thread.

    def arrive(self) -> None:
        """Let go whoever waits until it has taken something, before that can block."""
        arrival, self.arrival = self.arrival, None
        if arrival is not None:
            arrival.open()

    def _work(self) -> None:
        pool = self._pool
        own_place.be_worker(self.number)
        pool.tasks.mark_thread(True)
        try:
            factory = pool.loop_factory and partial(_made_by, pool.loop_factory)
            with asyncio.Runner(loop_factory=factory) as runner:
                loop = self._loop = runner.get_loop()
                if self._set_up(loop):
                    loop.add_reader(self._fd, self._woken)
                    while not self.stops:
                        self._run_on(loop)
                    loop.remove_reader(self._fd)
                    self.bell.tell()
                    self._tear_down(loop)
        except BaseException as error:
            # Of the loop itself, or of its factory: calls have futures to fail.
            pool.lose(self, error)
        finally:
            self.bell.close()
            self.arrive()
            pool.tasks.mark_thread(False)
            self._loop = self._base = None

    def _run_on(self, loop: Any) -> None:
        try:
            loop.run_forever()
        except BaseException as error:
            # Of a callback or task of the program's own: those of the pool raise nothing.
            if loop.is_running() or loop.is_closed():
                raise  # it is run elsewhere, or never will be again
            self._pool.complain("Exception in event loop:", error)

    def _set_up(self, loop: Any) -> bool:
        pool = self._pool
        if pool.initializer is None:
            return True
        base = Context()
        try:
            _call_in(loop, base, pool.initializer, pool.initargs)
        except BaseException as error:
            pool.break_down(error)
            return False
        self._base = base if len(base) else None
        return True

    def _tear_down(self, loop: Any) -> None:
        pool = self._pool
        if pool.finalizer is None:
            return
        try:
            _call_in(loop, Context(), pool.finalizer, ())
        except BaseException as error:
            pool.complain("Exception in finalizer:", error)

    def _woken(self) -> None:
        self.bell.drain()
        self._take()

    def _take(self) -> None:
        """Do what others have told the loop to do, as long as that is soon done."""
        self._will_take, self._takes = False, True
        for _ in range(_ROUNDS):
            self._take_once()
            if self.promised or self.stops or self.calls:
                break
            if not self.bell.linger():
                self._takes = False
                return
        self._takes = False
        if self.promised:
            self._plan_take()
        elif self.stops:
            self._loop.stop()
        elif not self.calls:
            self._plan_linger()

    def _take_once(self) -> None:
        self.bell.answer()
        if self.asked_at:
            self.answered_at = monotonic()
            self.asked_at = 0.0
        while self._orders:
            self._cancel(self._orders.popleft())
        for _ in range(_BATCH):
            call = self._pool.hand_out(self)
            if call is None:
                break
            if self.arrival is not None:
                self.arrive()
            self._begin(call)

    def _plan_take(self) -> None:
        if not self._will_take and not self._takes:
            self._will_take = True
            self._loop.call_soon(self._take)

    def _plan_linger(self) -> None:
        if not self._will_linger and not self._takes:
            self._will_linger = True
            self._loop.call_soon(self._linger)

    def _linger(self) -> None:
        self._will_linger = False
        if self.bell.linger():
            self._take()

    def _begin(self, call: Call) -> None:
        if call.attempt == 0 and not call.future._begin():
            self._leave(call, "withdrawn")
            return
        context = call.context
        if call.options.retries:
            context = context.copy()  # of each attempt its own
        if self._base is not None:
            lay_under(context, self._base)
        call.began = monotonic()
        loop = self._loop
        if call.options.timeout is not None:
            call.timer = loop.call_later(call.options.timeout, self._expire, call)
        run_plain = self._pool.run_plain
        if run_plain is None or is_async(call.fn):
            steps = self._run(call)
        else:
            steps = run_plain(self._run_plain, call)
        task = _begun(loop, steps, call.name(), context)
        if not task.done():
            # An order to cancel it comes after this, if it has been asked to stop: never twice.
            call.task = task

    async def _run(self, call: Call) -> None:
        try:
            made = call.fn(*call.args, **call.kwargs)
            if type(made) is not CoroutineType:
                made = awaited(made, call.fn)
            result = await made
        except BaseException as error:
            self._fail(call, error)
        else:
            self._succeed(call, result)
        finally:
            # The traceback of an error keeps this frame, and the future the error.
            call = made = result = None  # type: ignore[assignment]

    def _run_plain(self, call: Call) -> None:
        try:
            result = call.fn(*call.args, **call.kwargs)
        except BaseException as error:
            self._fail(call, error)
        else:
            self._succeed(call, result)
        finally:
            call = result = None  # type: ignore[assignment] # as in `_run`

    def _expire(self, call: Call) -> None:
        call.timer = None
        call.is_late = True
        if call.task is not None:
            call.task.cancel()

    def _cancel(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()
        elif call.is_put_off:
            call.disarm()
            self._pool.forget(call)

    def _succeed(self, call: Call, result: Any) -> None:
        call.disarm()
        future, lingers = call.future, self._leave(call, "done")
        self.bell.succeed(future, result, lingers)

    def _fail(self, call: Call, error: BaseException) -> None:
        call.disarm()
        is_cancelled = isinstance(error, asyncio.CancelledError | TaskCancelled)
        if is_cancelled and call.is_late and not call.is_asked:
            is_cancelled, error = False, call.overdue()
        if not call.is_asked:
            pause = call.pause(error)
            if pause is not None:
                self._try_again(call, pause)
                return
        future = call.future
        if is_cancelled:
            self._leave(call, "cancelled")
            # Those who cancelled it have done this themselves, or are about to.
            self._pool.tasks.cancel(future)
            return
        lingers = self._leave(call, "failed")
        self.bell.fail(future, error, lingers)
        del error  # its traceback keeps this frame

    def _try_again(self, call: Call, pause: float) -> None:
        call.attempt += 1
        call.is_late = False
        call.task = None
        self._leave(call, "retried")
        if pause > 0:
            call.is_put_off = True
            call.timer = self._loop.call_later(pause, self._again, call)
        else:
            self._pool.queue_again(call)

    def _again(self, call: Call) -> None:
        call.timer = None
        call.is_put_off = False
        self._pool.queue_again(call)

    def _leave(self, call: Call, how: str) -> bool:
        """Note that a call runs here no more; return whether `_linger` comes next."""
        self._pool.leave(self, call, how)
        if self.promised:
            self._plan_take()
        elif not self.calls:
            self._plan_linger()
            return True
        return False


def _made_by(loop_factory: Callable[[], Any]) -> Any:
    """Return a new event loop: one that another thread runs must not be closed at our end."""
    made = loop_factory()
    wrong = None
    if not isinstance(made, asyncio.AbstractEventLoop):
        wrong = "which is none"
    elif made.is_running():
        wrong = "which runs already, elsewhere"
    elif made.is_closed():
        wrong = "which is closed"
    if wrong is not None:
        raise TypeError(f"{loop_factory!r} must make a new event loop, and made {made!r}, {wrong}")
    return made


def _begun(
    loop: Any, steps: Coroutine[Any, Any, None], name: str, context: Context
) -> asyncio.Task[None]:
    """Return a task that has begun: it runs up to its first wait, without a turn of the loop."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(steps, loop=loop, name=name, context=context, eager_start=True)
    # Make the step that it asks the loop for.
    asked: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def note(step: Callable[..., object], *args: Any, **_: Any) -> None:
        asked.append((step, args))

    # Of this object only, and only in this thread: others use `call_soon_threadsafe`.
    loop.call_soon = note
    try:
        task = asyncio.Task(steps, loop=loop, name=name, context=context)
    finally:
        del loop.call_soon
    for step, args in asked:
        context.run(step, *args)
    return task


def _call_in(loop: Any, context: Context, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
    """Call a function, in the thread of a loop that does not run yet; await what it returns."""
    made: Any = context.run(fn, *args)
    if hasattr(type(made), "__await__"):

        async def wait() -> None:
            await made

        loop.run_until_complete(loop.create_task(wait(), context=context))
