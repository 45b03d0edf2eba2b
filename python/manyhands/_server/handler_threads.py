"""The threads in which a server's requests are handled: as many as are needed, and used again."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import deque
from contextvars import Context, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from manyhands._interpreter.living import Living

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._server.serve_loops import ServeLoops

__all__ = ["HandlerThreads", "Job"]

# A thread that has had nothing to do for so long ends.
_IDLE_S: Final = 10.0


class Job(NamedTuple):
    """One request to be handled.

    Args:
        call: handles it, whatever comes, and closes it.
        arguments: of the call.
        name: of the server.
        is_daemon: whether the end of the program may come before that of the request.
        is_awaited: whether `HandlerThreads.join` waits for it.
        may_stay: whether the thread may be used again.
    """

    call: Callable[..., object]
    arguments: tuple[Any, ...]
    name: str
    is_daemon: bool
    is_awaited: bool
    may_stay: bool


class _HandlerThread(threading.Thread):
    def __init__(self, threads: HandlerThreads, job: Job, number: int) -> None:
        super().__init__(name=f"{job.name}-{number}", daemon=job.is_daemon)
        self._threads = threads
        self.first: Job | None = job
        self.is_awaited = job.is_awaited
        self.starter: int | None = threading.get_ident()  # until it runs
        # Its `get` and `put` may be called by a signal handler in the middle of another one.
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def run(self) -> None:
        job, self.first = self.first, None
        while job is not None:
            try:
                job.call(*job.arguments)
            except BaseException:
                # As `threading` does when a thread ends by an exception. This one goes on.
                self._invoke_excepthook(self)  # type: ignore[attr-defined]
            may_stay = job.may_stay
            job = None  # what a request held is not kept until the next one comes
            job = self._threads.next_job(self, may_stay)


class HandlerThreads:
    """The threads of one server in this process.

    A thread that is done waits for another request as long as a loop serves. Where no thread can be
    started, requests wait until another one ends, and the server accepts no more meanwhile.

    Args:
        loops: the loops of the server.
        request_ended: called after each request.

    Example:
        >>> from manyhands._server.serve_loops import ServeLoops
        >>> threads = HandlerThreads(ServeLoops(), int)
        >>> threads.hand_over(Job(print, ("hello",), "Server", False, True, True))
        >>> threads.join()
        hello
    """

    def __init__(self, loops: ServeLoops, request_ended: Callable[[], object]) -> None:
        self._loops = loops
        self._request_ended = request_ended
        self._changed = threading.Condition()
        self._alive: set[_HandlerThread] = set()
        self._parked: list[_HandlerThread] = []
        self._waiting: deque[Job] = deque()
        self._requests = 0
        self._numbers = count(1)
        _known.add(self)

    def __len__(self) -> int:
        return len(self._alive)

    def has_room(self, most: int | None) -> bool:
        """Say whether another request would be handled at once, of `most` at a time."""
        with self._changed:
            return not self._waiting and (most is None or self._requests < most)

    def wait_for_room(self, most: int | None) -> None:
        """Return when `has_room`."""
        with self._changed:
            while not self.has_room(most):
                self._changed.wait()

    def hand_over(self, job: Job) -> None:
        """Have a thread handle a request.

        Raises:
            RuntimeError: no thread can be started, and there is none.
        """
        with self._changed:
            self._requests += 1
            for parked in reversed(self._parked):
                if parked.daemon == job.is_daemon:
                    self._parked.remove(parked)
                    parked.is_awaited = job.is_awaited
                    parked.jobs.put(job)
                    return
            thread = _HandlerThread(self, job, next(self._numbers))
            self._alive.add(thread)
            try:
                thread.start()
                thread.starter = None
            except BaseException as error:
                self._alive.discard(thread)
                if self._alive and isinstance(error, RuntimeError | MemoryError):
                    self._waiting.append(job)
                    return
                self._requests -= 1
                raise

    def next_job(self, thread: _HandlerThread, may_stay: bool) -> Job | None:
        """Return what a thread that is done with a request does next; None if it ends."""
        with self._changed:
            self._requests -= 1
            job = self._waiting.popleft() if self._waiting else None
            stays = job is None and may_stay and self._loops.will_go_on(_is_leaving)
            if job is not None:
                thread.is_awaited = job.is_awaited
            elif stays:
                self._parked.append(thread)
            else:
                self._alive.discard(thread)
            self._changed.notify_all()
        self._request_ended()
        return self._park(thread) if stays else job

    def _park(self, thread: _HandlerThread) -> Job | None:
        try:
            return thread.jobs.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._changed:
                if thread in self._parked:
                    self._parked.remove(thread)
                    self._alive.discard(thread)
                    return None
            return thread.jobs.get()  # it was chosen just now

    def release(self) -> None:
        """Have those threads end that wait for a request, unless a loop goes on."""
        with self._changed:
            if self._loops.will_go_on(_is_leaving):
                return
            while self._parked:
                thread = self._parked.pop()
                self._alive.discard(thread)
                thread.jobs.put(None)

    def join(self) -> None:
        """Wait until the requests that are awaited have ended, and their threads."""
        self.release()
        ended: set[_HandlerThread] = set()
        # By waiting for the condition, which gives up the lock even if this is a signal handler, in
        # the middle of what its thread does with it.
        with self._changed:
            while True:
                awaited = {each for each in self._alive if each.is_awaited and _can_await(each)}
                ended |= awaited
                if not awaited and not any(job.is_awaited for job in self._waiting):
                    break
                self._changed.wait()
        for thread in ended:
            thread.join()


def _can_await(thread: _HandlerThread) -> bool:
    """Say whether the calling thread may wait for another one to end.

    A signal handler in the middle of `Thread.start` has the lock that the new thread needs in order
    to begin.
    """
    return thread is not threading.current_thread() and thread.starter != threading.get_ident()


def inherited_context() -> Context:
    """Return the context in which a thread begins that is started here: an own one for each."""
    if getattr(sys.flags, "thread_inherit_context", False):
        return copy_context()
    return Context()


_known: Living[HandlerThreads] = Living()
_is_leaving = False


def _leave() -> None:
    # The interpreter is about to wait for all threads that are no daemons.
    global _is_leaving
    _is_leaving = True
    for threads in _known:
        threads.release()


def _forget() -> None:
    # A child has none of these threads, and another thread may have had their locks.
    global _is_leaving, _known
    _is_leaving, _known = False, Living()


# Called before the interpreter joins its threads, which is before anything of `atexit`.
threading._register_atexit(_leave)  # type: ignore[attr-defined]
os.register_at_fork(after_in_child=_forget)
