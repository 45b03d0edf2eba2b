"""Finds calls that block an event loop, and names them.

A thread of each pool asks its loops for a sign of life a few times per `StallWatch.limit`, as long
as they have something to do. A loop that does not answer, and is in the same call all that time, is
held up by it.
"""

from __future__ import annotations

import os
import sys
import traceback
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol
from weakref import ref

from manyhands._interpreter.sure_thread import SureThread
from manyhands._native import Latch

if TYPE_CHECKING:
    from types import FrameType

    from manyhands._coroutine.event_loop import LoopThread

    class Watched(Protocol):
        """A pool, for its watch."""

        prefix: str
        threads: list[LoopThread]

        def pass_on(self) -> None:
            """Promise to others what was promised to loops that do not answer."""


__all__ = ["StallWatch"]

# So many questions per limit. A stall that is longer than the limit by one part of these is found.
_QUESTIONS: Final = 4
# After so many rounds in which there was nothing to ask, the watch sleeps.
_IDLE_ROUNDS: Final = 20
# A stall that lasts so many times the limit is told before it has ended.
_LONG: Final = 10
# Where a loop is that waits: for its sockets and timers, for a CPU, for the GIL.
_WAITING: Final = ("select", "_linger", "_run_once", "run_forever", "_run_on", "_work")
# Folders of what users do not write: who looks for the cause looks at what calls that.
_LIBRARIES: Final = tuple(
    os.path.dirname(path) + os.sep for path in (traceback.__file__, os.path.dirname(__file__))
)


class _Stall:
    """A loop that has not answered for too long.

    Attributes:
        began: when it was asked.
        where: file and line, and the function.
        stack: all that led there.
        is_told: whether it has been logged.
    """

    def __init__(self, began: float, frame: FrameType) -> None:
        self.began = began
        self.where = _place_of(frame)
        self.stack = "".join(traceback.format_stack(frame))
        self.is_told = False


def _place_of(frame: FrameType) -> str:
    """Return the innermost place that is the program's own, or else the innermost of all."""
    found: FrameType | None = frame
    while found is not None and found.f_code.co_filename.startswith(_LIBRARIES):
        found = found.f_back
    found = found or frame
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}"


def _suspect(frame: FrameType) -> FrameType:
    """Return the outermost frame of the program's own, or else the innermost of all."""
    found, each = frame, frame.f_back
    while each is not None:
        if not each.f_code.co_filename.startswith(_LIBRARIES):
            found = each
        each = each.f_back
    return found


def _waits(frame: FrameType) -> bool:
    """Say whether a loop waits, or is about to, in whose thread that is the innermost frame."""
    code = frame.f_code
    return code.co_name in _WAITING and code.co_filename.startswith(_LIBRARIES)


class StallWatch:
    """A thread that watches the loops of one pool.

    Args:
        pool: whose loops.
        limit: after how many seconds without an answer a loop is reported.
    """

    def __init__(self, pool: Watched, limit: float) -> None:
        self.limit = limit
        self._pause = limit / _QUESTIONS
        self._pool = ref(pool)
        self._stopped = Latch()
        # Open while there is something to watch.
        self._called = Latch()
        self._stalls: dict[int, _Stall] = {}
        # What a loop was in when it was asked. The very frame: another call would be another one.
        self._suspects: dict[int, FrameType] = {}
        self.thread = SureThread(target=self._watch, name=f"{pool.prefix}-stalls", daemon=True)
        self.thread.begin(lambda _: None)

    def begin(self) -> None:
        """Note that there is something to watch."""
        if not self._called.is_open:
            self._called.open()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.open()
        self._called.open()

    def _watch(self) -> None:
        idle = 0
        while not self._stopped.wait(self._pause):
            pool = self._pool()
            if pool is None:
                return
            idle = 0 if self._look(pool) else idle + 1
            pool.pass_on()
            del pool
            if idle >= _IDLE_ROUNDS:
                self._called, idle = Latch(), 0
                # What came before that has seen the old one.
                pool = self._pool()
                if pool is not None and not any(loop.load() for loop in pool.threads):
                    del pool
                    if not self._stopped.is_open:
                        self._called.wait()
        pool = self._pool()
        if pool is not None:
            self._look(pool)

    def _look(self, pool: Watched) -> bool:
        """Ask loops, and see who has not answered; return whether one has something to do."""
        now, busy = monotonic(), False
        threads = list(pool.threads)
        self._suspects = {
            number: suspect
            for number, suspect in self._suspects.items()
            if any(loop.number == number and loop.asked_at for loop in threads)
        }
        frames = sys._current_frames() if any(loop.load() for loop in threads) else {}
        for loop in threads:
            stall, asked = self._stalls.get(loop.number), loop.asked_at
            if stall is not None and asked != stall.began:
                self._stalls.pop(loop.number)
                self._tell(loop, stall, max(loop.answered_at, stall.began) - stall.began, False)
                stall = None
            busy = busy or loop.load() > 0
            if stall is not None:
                if now - stall.began > _LONG * self.limit:
                    self._tell(loop, stall, now - stall.began, True)
                continue
            frame = frames.get(loop.thread.ident or 0)
            # A loop that waits need not be woken to say so.
            if frame is None or _waits(frame):
                continue
            suspect = _suspect(frame)
            if suspect.f_code.co_filename.startswith(_LIBRARIES[1]):
                continue  # nobody's function, but our own: a CPU or the GIL is what it lacks
            if not asked:
                loop.asked_at, self._suspects[loop.number] = now, suspect
                loop.wake()
            elif self._suspects.get(loop.number) is not suspect:
                # It has much to do, but none of that takes long.
                loop.asked_at, self._suspects[loop.number] = now, suspect
            elif now - asked > self.limit:
                loop.stalls += 1
                self._stalls[loop.number] = _Stall(asked, frame)
        return busy or bool(self._stalls)

    def _tell(self, loop: LoopThread, stall: _Stall, seconds: float, lasts: bool) -> None:
        if stall.is_told:
            return
        stall.is_told = True
        import logging

        logging.getLogger("manyhands").warning(
            "the event loop of thread %s %s blocked for %.3f s at %s: nothing else ran in it; "
            "await there (mh.await_ in a greenlet), or call it in a thread (asyncio.to_thread)\n%s",
            loop.thread.name,
            "has been" if lasts else "was",
            seconds,
            stall.where,
            stall.stack,
        )
