"""The processes of a server, as their parent has them: started, watched, replaced and ended."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._errors.failures import signal_name
from manyhands._pickle import pickling
from manyhands._server.beat import is_fresh
from manyhands._server.control_socket import ControlSocket
from manyhands._server.counts import OF_ALL, with_past
from manyhands._worker import interpreter

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ProcessCrew"]

logger = logging.getLogger("manyhands.server")

# How long to wait before a process is replaced that has never been ready: doubled each time.
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
# So many in a row that have never been ready are enough, if no process is.
MOST_FAILURES = 3
# How long a process may take to end once the grace of its handlers is over.
ENDING_S = 2.0


class Member:
    """One process."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: ControlSocket,
        ledger: _native.ServerLedger,
        generation: int,
        ready_by: float,
    ) -> None:
        self.process = process
        self.control = control
        self.ledger = ledger
        self.generation = generation
        # It has been told to end.
        self.leaves = False
        # Unless it is ready, or has ended, by then, it is killed.
        self.ends_by = ready_by
        # Its end is seen here, even if a child of it keeps its end of the socket pair open.
        self.pidfd = os.pidfd_open(process.pid)
        self.ready = False


class ProcessCrew:
    """Processes that serve one listener.

    Args:
        listening: the listener, which stays this process's: what waits in its queue survives
            the processes.
        size: how many there are.
        handler: what serves a connection.
        options: what else the server in each process is made with.
        program: the module of this room whose `main` each process runs.
        name: what the server is called in messages.
        ledger: where it is counted what concerns all of them.
        on_ready: called when all are ready for the first time, and after each reload; with what
            went wrong, if the old ones go on.
        on_end: called when a handler wants the server to end, with its grace.
        start_timeout: how many seconds a process may take until it is ready.
        beat_s: how often, in seconds, to make sure that it answers; None: never.
        manager: the socket of the service manager that is told so.
    """

    def __init__(
        self,
        listening: socket.socket,
        size: int,
        handler: Any,
        options: dict[str, Any],
        program: str,
        name: str,
        ledger: _native.ServerLedger,
        on_ready: Callable[[str | None], None],
        on_end: Callable[[float | None], None],
        *,
        start_timeout: float,
        beat_s: float | None,
        manager: str | None,
    ) -> None:
        self._listening = listening
        self._size = size
        self._program = program
        self._name = name
        # Kept: descriptors of what is pickled, such as locks of multiprocessing, belong to it.
        self._settings = (handler, options, beat_s)
        self._pickled, self._inherited = pickling.dumps_for_spawn(self._settings)
        self._members: dict[int, Member] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._waker.setblocking(False)
        self._generation = 0
        self._reload_asked = False
        self._ledger = ledger
        self._on_ready = on_ready
        # Whether somebody waits to be told that all are ready.
        self._unsettled = True
        self._on_end = on_end
        self._failures = 0
        self._start_at = 0.0
        self._start_timeout = start_timeout
        self._beat_s = beat_s
        self._beat_at = 0.0 if beat_s else float("inf")
        self._manager = manager
        # Held while a process's numbers become those of all.
        self._counting = threading.Lock()

    def ask(self) -> None:
        """Have the serving thread look at what is wished."""
        try:
            self._waker.send(b"wake")
        except OSError:
            pass  # it has been woken already, or has ended

    def attend(self, is_over: Callable[[], bool]) -> None:
        """Keep as many processes as there should be, until it is over.

        Raises:
            OSError: no process can be started.
        """
        while not is_over():
            now = time.monotonic()
            if now >= self._beat_at:
                self._beat(now)
            if self._reload_asked and self._has_settled():
                self._reload_asked = False
                self._unsettled = True
                self._generation += 1
            missing = len(self._current()) < self._size
            if missing and now >= self._start_at:
                self._start()
                continue
            next_end = min(self._kill_late(now), self._beat_at)
            next_look = min(next_end, self._start_at) if missing else next_end
            self._listen(None if next_look == float("inf") else max(0.0, next_look - now))

    def reload(self) -> None:
        """Have new processes take over, each of which is ready before one of the old ends.

        If others are just taking over, these come after them.
        """
        self._reload_asked = True
        self.ask()

    def _current(self) -> list[Member]:
        """Return those that stay."""
        return [
            each
            for each in self._members.values()
            if each.generation == self._generation and not each.leaves
        ]

    def _has_settled(self) -> bool:
        """Tell whether all that stay are ready, and of one generation."""
        staying = [each for each in self._members.values() if not each.leaves]
        return len(staying) == self._size and all(
            each.ready and each.generation == self._generation for each in staying
        )

    def _is_ready(self, member: Member) -> None:
        """Have an old process end for one that is ready."""
        member.ready, self._failures = True, 0
        member.ends_by = float("inf")
        staying = [each for each in self._members.values() if not each.leaves]
        old = [each for each in staying if each.generation != self._generation]
        if not old and len(staying) > self._size:
            # Those that went on when a new one had failed; but not all new ones do.
            old = [each for each in staying if each.ready and each is not member]
        if old:
            old[0].leaves = True
            grace = self._settings[1]["grace"]
            old[0].ends_by = time.monotonic() + grace + ENDING_S
            if not old[0].control.tell(grace=None):
                old[0].process.terminate()
        current = self._current()
        if self._unsettled and len(current) == self._size and all(each.ready for each in current):
            self._ledger.serves()
            self._settled(None)

    def _settled(self, trouble: str | None) -> None:
        """Tell whoever waits for it that all are ready, or why those go on that were."""
        if self._unsettled:
            self._unsettled = False
            self._on_ready(trouble)

    def _beat(self, now: float) -> None:
        """Note that the server answers, if this thread and any of its processes do."""
        assert self._beat_s is not None
        self._beat_at = now + self._beat_s
        if any(is_fresh(each.ledger, self._beat_s) for each in self._current()):
            self._ledger.answers()
            if self._manager is not None:
                with suppress(OSError):  # it does not read
                    _native.tell_service_manager(self._manager, "WATCHDOG=1", wait=False)

    def drain(self, grace: float, wished: Callable[[], float | None]) -> None:
        """End all processes, once handlers have had `grace` seconds, or fewer if wished.

        An exception of a signal's handler, such as a second KeyboardInterrupt, ends them at once.
        """
        self._ledger.ends()
        try:
            self._await_ends(grace, wished)
        finally:
            for member in self._members.values():
                member.ends_by = 0.0
            self._kill_late(time.monotonic())
            self._selector.close()
            self._woken.close()
            self._waker.close()

    def _await_ends(self, grace: float, wished: Callable[[], float | None]) -> None:
        for member in self._members.values():
            member.leaves = True
        self._tell_all(grace=grace)
        deadline = time.monotonic() + grace + ENDING_S
        while self._members and (left := deadline - time.monotonic()) > 0:
            self._listen(left)
            asked = wished()
            if asked is not None and asked < grace:
                grace = asked
                deadline = min(deadline, time.monotonic() + grace + ENDING_S)
                self._tell_all(grace=grace)

    def _kill_late(self, now: float) -> float:
        """Kill processes that do not end, as those do in which handlers have started threads.

        Returns:
            When there is another to be killed, unless it has ended by then.
        """
        for member in [each for each in self._members.values() if each.ends_by <= now]:
            is_slow = not (member.ready or member.leaves)
            what = "is not ready" if is_slow else "does not end"
            logger.warning(
                "process %d of %s %s, and is killed", member.process.pid, self._name, what
            )
            member.process.kill()
            self._bury(member, is_our_doing=True)
            if is_slow:
                self._failed(f"was not ready within {self._start_timeout:g} s, and was killed")
        return min((each.ends_by for each in self._members.values()), default=float("inf"))

    def counts(self) -> dict[str, int]:
        """Add up what the processes have counted, those included that have ended."""
        with self._counting:
            members = list(self._members.values())
            total = self._ledger.counts()
            for member in members:
                total = with_past(member.ledger.counts(), total)
        return total | {"processes": len(members)}

    def report(self) -> list[dict[str, Any]]:
        """Return of each process its ``pid``, ``phase``, ``statistics``, and if it ``answers``."""
        return [
            {
                "pid": each.process.pid,
                "phase": each.ledger.phase,
                "answers": is_fresh(each.ledger, self._beat_s),
                "statistics": {
                    name: number
                    for name, number in each.ledger.counts().items()
                    if name not in OF_ALL
                },
            }
            for each in list(self._members.values())
        ]

    def _tell_all(self, **message: Any) -> None:
        for member in self._members.values():
            member.control.tell(**message)

    def _start(self) -> None:
        """Start one process; if that cannot be, it is tried again later."""
        try:
            member = self._started()
        except OSError as error:
            self._failed(f"cannot be started: {error}")
            return
        self._members[member.process.pid] = member
        self._selector.register(member.control, selectors.EVENT_READ, member)
        self._selector.register(member.pidfd, selectors.EVENT_READ, member)

    def _started(self) -> Member:
        mine, theirs = socket.socketpair()
        with theirs, ExitStack() as if_it_fails:
            if_it_fails.callback(mine.close)
            ledger = _native.ServerLedger("", "process", self._ledger.number)
            with open(os.memfd_create("manyhands-server"), "w+b") as settings:
                settings.write(self._pickled)
                settings.seek(0)
                process = self._spawned(theirs.fileno(), settings.fileno(), ledger.fileno())
            try:
                ready_by = time.monotonic() + self._start_timeout
                control = ControlSocket(mine)
                member = Member(process, control, ledger, self._generation, ready_by)
            except BaseException:
                process.kill()
                process.wait()
                raise
            if_it_fails.pop_all()
            return member

    def _spawned(
        self, control_fd: int, settings_fd: int, ledger_fd: int
    ) -> subprocess.Popen[bytes]:
        import sys

        numbers = (control_fd, self._listening.fileno(), settings_fd, ledger_fd)
        code = (
            f"import sys; sys.path[:] = {[*sys.path, interpreter.home()]!r}; "
            f"from manyhands._server.{self._program} import main; main{numbers!r}"
        )
        return subprocess.Popen(
            [interpreter.program(), *interpreter.arguments(code)],
            pass_fds=[*numbers, *self._inherited],
            stdin=subprocess.DEVNULL,
        )

    def _listen(self, timeout: float | None) -> None:
        """Wait for what processes say, or for their ends."""
        for key, _ in self._selector.select(timeout):
            member: Member | None = key.data
            if member is None:
                self._woken.recv(4096)
                continue
            if member.process.pid not in self._members:
                continue  # both of its descriptors were ready
            messages = member.control.hear() if key.fd != member.pidfd else None
            if messages is None:
                self._bury(member)
                continue
            self._note(member, messages)

    def _note(self, member: Member, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            if message.get("ready"):
                self._is_ready(member)
            if "end" in message:
                self._on_end(message["end"])

    def _hear_last(self, member: Member) -> None:
        """Read what a process has said before it ended."""
        member.control.stop_waiting()
        try:
            while (messages := member.control.hear()) is not None:
                self._note(member, messages)
        except BlockingIOError:
            pass  # a child of it has the other end

    def _bury(self, member: Member, *, is_our_doing: bool = False) -> None:
        """Note the end of a process; whether it is `is_our_doing`, as we have killed it."""
        self._hear_last(member)
        self._selector.unregister(member.control)
        self._selector.unregister(member.pidfd)
        member.control.close()
        os.close(member.pidfd)
        code = member.process.wait()
        with self._counting:
            del self._members[member.process.pid]
            self._ledger.absorb(member.ledger)
            member.ledger.hide()
        if is_our_doing or (code == 0 and (member.ready or member.leaves)):
            return
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"has ended with {code}"
        if member.leaves:
            logger.error("process %d of %s %s as it ended", member.process.pid, self._name, how)
        elif member.ready:
            self._ledger.add("replaced", 1)
            logger.error(
                "process %d of %s %s; another takes its place", member.process.pid, self._name, how
            )
        else:
            self._failed(f"{how} before it was ready; what it has said is on stderr")

    def _failed(self, how: str) -> None:
        """Note that a process has never been ready; give up if that is the rule."""
        old = [each for each in self._members.values() if each.generation != self._generation]
        if any(not each.leaves for each in old):
            for each in old:
                each.generation = self._generation
            logger.error("a new process of %s %s: the old ones go on", self._name, how)
            self._settled(f"a new process {how}: the old ones go on")
            return
        self._failures += 1
        if self._failures >= MOST_FAILURES and not any(
            each.ready for each in self._members.values()
        ):
            raise OSError(f"{self._name} cannot be served: its last process {how}")
        pause = min(LONGEST_PAUSE_S, SHORTEST_PAUSE_S * 2 ** min(self._failures - 1, 10))
        self._start_at = time.monotonic() + pause
        logger.error("a process of %s %s; the next try is in %.1f s", self._name, how, pause)
