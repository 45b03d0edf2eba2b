"""The zygote: a single-threaded process that forks workers on request.

Forking a process with threads can leave the child with locks that nobody will ever release, and a
parent that uses a pool has threads. So the parent starts this program, which imports what every
worker needs, and asks it for workers over a socket of packets. crates/pool/src/zygote.rs has the
list of them, and reads and writes them for both sides.

When the parent goes away, so does everything: the zygote kills its workers, and the kernel kills
them should the zygote die.

This module is imported in a fresh interpreter for every pool: it imports as little as it can.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # what `signal` is made of
import _socket
import errno
import gc
import marshal
import os
import select
import sys
import time
import warnings

from manyhands._worker import hash_seed

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    import resource
    from collections.abc import Callable
    from typing import NoReturn

    from manyhands._worker.settings import Settings
    from manyhands._worker.worker import Assignment

__all__ = ["Zygote", "main"]

_PICKLED = b"\x80"  # how a pickle begins, and nothing of marshal's
_WARM_AFTER_MS = 30
# Seconds between tries to tell the parent something, doubled each time.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.3
# How often a worker is looked at for whose end there is no descriptor yet.
_LOOK_MS = 20
# How long workers that have been killed may take to die, on a busy machine.
_DYING_MS = 500
# What each worker imports at the latest when it has nothing to do, but needs for few first tasks.
_SOON = ("manyhands._pickle.context", "manyhands._pickle.remote_error", "linecache", "traceback")
# What functions of ``__main__`` need.
_WARM = ("manyhands._worker.log_set_up", "cloudpickle", "manyhands._pickle.by_value")


class _Child:
    """A worker as its zygote sees it."""

    __slots__ = ("generation", "participant", "pid", "pidfd")

    def __init__(self, participant: int, generation: int, pid: int) -> None:
        self.participant = participant
        self.generation = generation
        self.pid = pid
        self.pidfd = -1


class Zygote:
    """Serves one parent.

    Args:
        control_fd: the zygote's end of a SEQPACKET socket pair.
        read_block: gives the bytes of a block in the parent's segment.
        run_worker: what a forked worker does, called with its assignment and the settings; the
            process ends when it returns.
        kill: ends workers, given by number, together with what their tasks have started.
    """

    def __init__(
        self,
        control_fd: int,
        read_block: Callable[[int], bytes],
        run_worker: Callable[[Assignment, Settings], None],
        kill: Callable[[list[int]], None],
    ) -> None:
        # Not at the top: `prepare` comes first.
        from manyhands import _native

        self._native = _native
        os.set_inheritable(control_fd, False)
        self._control = _socket.socket(fileno=control_fd)
        self._read_block = read_block
        self._run_worker = run_worker
        self._kill = kill
        self._settings: Settings | None = None
        self._children: dict[int, _Child] = {}  # by pidfd
        # There was no descriptor for these. They run, and may have tasks: they are kept.
        self._unwatched: list[_Child] = []
        self._quitting = False
        self._has_forked = False
        self._has_more = False
        self._is_warm = False
        self._pid = os.getpid()
        self._poll = select.poll()
        self._poll.register(control_fd, select.POLLIN)
        # The socket alone would not do: a child that the parent has forked keeps it open.
        self._parent = os.pidfd_open(os.getppid())
        self._poll.register(self._parent, select.POLLIN)

    def serve(self) -> int:
        """Answers requests until the parent goes away, or until it is done.

        Returns:
            The exit code for the process: 0, or 1 if the set-up has failed.
        """
        control_fd = self._control.fileno()
        while not (self._quitting and not self._children and not self._unwatched):
            waits_for_requests = None if self._is_warm else _WARM_AFTER_MS
            ready = self._poll.poll(_LOOK_MS if self._unwatched else waits_for_requests)
            if self._unwatched:
                self._look_after_unwatched()
            elif not ready and self._settings is not None:
                self._warm_up()
            for descriptor, _ in ready:
                if descriptor == control_fd:
                    if not self._answer():
                        return 0 if self._settings is not None or self._quitting else 1
                elif descriptor == self._parent:
                    self._kill_all()
                    return 0
                else:
                    self._reap(self._children[descriptor])
        return 0

    def _warm_up(self) -> None:
        """Import, in a quiet moment, what later workers would each have to import by themselves.

        Not before the first workers have been forked: they are waited for.
        """
        self._is_warm = True
        self._import_soon()
        _import_early(__import__, _WARM)

    def _import_soon(self) -> None:
        if not self._has_more:
            from manyhands._interpreter import late

            self._has_more = True
            _import_early(late.module, _SOON)

    def _answer(self) -> bool:
        """Do what one packet asks for; False when there is nothing more to do."""
        try:
            packet, attached, _, _ = self._control.recvmsg(
                self._native.LONGEST_PACKET,
                _socket.CMSG_SPACE(self._native.WORKER_PIPES * 4),
                _socket.MSG_CMSG_CLOEXEC,
            )
        except ConnectionError:
            packet, attached = b"", []
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.ENOBUFS):
                raise
            time.sleep(_FIRST_PAUSE)
            return True  # it is still there
        if not packet:
            self._kill_all()
            return False
        request, details = self._native.read_request(packet)
        if request == "set_up":
            return self._set_up(*details)
        if request == "fork":
            self._fork(_descriptors(attached), *details)
        elif request == "signal":
            self._signal(*details)
        elif request == "quit":
            self._quitting = True
        return True

    def _set_up(self, reference: int, version: str) -> bool:
        if version != self._native.VERSION:
            text = (
                f"this program uses manyhands {version}, but {self._native.VERSION} has been "
                "installed since it was started; start it again"
            )
            self._send(self._native.say_failed(text.encode()))
            return False
        try:
            settings = _load(self._read_block(reference))
            apply(settings)
        except BaseException as error:  # a preloaded module may raise anything, also SystemExit
            from manyhands._pickle.remote_error import traceback_text

            text = traceback_text(error)
            self._send(self._native.say_failed(text.encode("utf-8", "backslashreplace")))
            return False
        self._settings = settings
        # Objects that live already stay out of every worker's collections, which would only
        # copy the pages they share with the zygote.
        gc.freeze()
        self._send(self._native.say_ready())
        return True

    def _fork(self, pipes: list[int], participant: int, generation: int, *places: int) -> None:
        from manyhands._worker.worker import Assignment

        try:
            assignment = Assignment(pipes, participant, generation, *places)
            if self._has_forked:
                # The first worker's task was waited for. The others share the memory of this: more
                # than half of what a worker would otherwise have for itself.
                self._import_soon()
            self._has_forked = True
            pid = self._fork_quietly()
        except OSError as error:
            reason = error.errno or errno.EAGAIN
            self._send(self._native.say_not_forked(participant, generation, reason))
            return
        except ValueError:  # the pipes did not arrive
            self._send(self._native.say_not_forked(participant, generation, errno.EMFILE))
            return
        finally:
            if os.getpid() == self._pid:
                for pipe in pipes:
                    os.close(pipe)
        if pid == 0:
            self._become_worker(assignment)
        child = _Child(participant, generation, pid)
        if not self._watch(child):
            self._unwatched.append(child)
        self._send(self._native.say_started(participant, generation, pid))

    def _watch(self, child: _Child) -> bool:
        """Has the end of a worker noticed; False if there is no descriptor for it now."""
        try:
            child.pidfd = os.pidfd_open(child.pid)
        except OSError:
            return False
        self._children[child.pidfd] = child
        self._poll.register(child.pidfd, select.POLLIN)
        return True

    def _look_after_unwatched(self) -> None:
        for child in self._unwatched.copy():
            if self._watch(child):
                self._unwatched.remove(child)
            elif (ended := os.wait4(child.pid, os.WNOHANG))[0]:
                self._unwatched.remove(child)
                self._tell_ended(child, ended)

    @staticmethod
    def _fork_quietly() -> int:
        # Preloaded libraries may have threads of their own, which know about forks; CPython
        # 3.12 and later would warn about them at every fork.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return os.fork()

    def _become_worker(self, assignment: Assignment) -> NoReturn:
        code = 1
        try:
            self._control.close()
            os.close(self._parent)
            for pidfd in self._children:
                os.close(pidfd)
            self._children.clear()
            self._unwatched.clear()
            gc.enable()
            if self._settings is None:
                raise RuntimeError("the zygote was asked for a worker before its settings came")
            self._run_worker(assignment, self._settings)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def _signal(self, participant: int, generation: int, number: int) -> None:
        for child in self._all_children():
            if (child.participant, child.generation) == (participant, generation):
                if number == signal.SIGKILL:
                    self._kill([child.pid])
                _send_signal(child, number)

    def _reap(self, child: _Child) -> None:
        self._poll.unregister(child.pidfd)
        del self._children[child.pidfd]
        os.close(child.pidfd)
        self._tell_ended(child, os.wait4(child.pid, 0))

    def _tell_ended(self, child: _Child, ended: tuple[int, int, resource.struct_rusage]) -> None:
        _, status, usage = ended
        resident = usage.ru_maxrss * 1024  # the kernel counts in KiB
        self._send(
            self._native.say_ended(child.participant, child.generation, child.pid, status, resident)
        )

    def _all_children(self) -> list[_Child]:
        return [*self._children.values(), *self._unwatched]

    def _kill_all(self) -> None:
        self._kill([child.pid for child in self._all_children()])
        for child in self._all_children():
            _send_signal(child, signal.SIGKILL)  # again: that needed descriptors of its own
        self._poll.unregister(self._control)
        self._poll.unregister(self._parent)
        # Not forever: where signals are refused, the kernel kills them when this process ends.
        while self._children and (ready := self._poll.poll(_DYING_MS)):
            for descriptor, _ in ready:
                self._reap(self._children[descriptor])

    def _send(self, packet: bytes) -> None:
        """Tells the parent. A zygote that cannot is no use to it: it ends, and that is heard."""
        pause = _FIRST_PAUSE
        while True:
            try:
                self._control.send(packet, _socket.MSG_NOSIGNAL)
                return
            except ConnectionError:
                return  # the parent has gone; `serve` will hear of it
            except OSError:
                if pause > _LONGEST_PAUSE:
                    raise
            time.sleep(pause)
            pause *= 2


def _import_early(load: Callable[[str], object], names: tuple[str, ...]) -> None:
    """Import modules that workers forked from now on will need."""
    try:
        for name in names:
            load(name)
    except Exception:
        pass  # then the worker that needs it will tell
    gc.freeze()


def _load(data: bytes) -> Settings:
    """Load settings as `settings.dump` has written them."""
    loads: Callable[[bytes], Settings] = marshal.loads
    if data.startswith(_PICKLED):
        from _pickle import loads
    return loads(data)


def _send_signal(child: _Child, number: int) -> None:
    try:
        signal.pidfd_send_signal(child.pidfd, number)
    except OSError:
        try:
            os.kill(child.pid, number)  # it has not been reaped
        except OSError:
            pass  # refused here as well; the parent thinks of something else


def apply(settings: Settings) -> None:
    """Make this process like the parent: environment, directory, paths, preloaded modules.

    Args:
        settings: what the parent has said about itself.

    Raises:
        BaseException: whatever a preloaded module raises while it is imported.
    """
    for name, value in settings["env"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if settings["hash_seed"] is not None:
        hash_seed.adopt(settings["hash_seed"])
    if settings["cwd"] is not None:
        try:
            os.chdir(settings["cwd"])
        except OSError:
            pass  # removed in the meantime: the parent works without it as well
    sys.path[:] = settings["sys_path"]
    sys.argv[:] = settings["argv"]
    deepest, digits = settings["limits"]
    # Not lower: how deep our own calls are is no business of the program's.
    sys.setrecursionlimit(max(deepest, sys.getrecursionlimit()))
    sys.set_int_max_str_digits(digits)
    for name in settings["preload"]:
        __import__(name)


def prepare() -> None:
    """Make a fresh interpreter fit for being a zygote."""
    gc.disable()  # nothing here becomes garbage; workers enable it again
    # Where the parent had 0 to 2 closed, a pipe must not get one of these numbers.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    # A Ctrl-C on the terminal is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def main(control_fd: int, segment_fd: int, inherited: dict[int, int]) -> NoReturn:
    """Run the zygote; the program that the parent executes.

    Args:
        control_fd: the zygote's end of a SEQPACKET socket pair.
        segment_fd: the parent's segment.
        inherited: descriptors that objects of the parent refer to by number: the number here of
            each, and the number that it has in the parent and must have here.
    """
    if inherited:
        from manyhands._worker.inherited import arrange

        control_fd, segment_fd = arrange(control_fd, segment_fd, inherited)
    prepare()
    from manyhands import _native
    from manyhands._worker import worker

    _native.attach(segment_fd)
    zygote = os.getpid()

    def run_worker(assignment: Assignment, settings: Settings) -> None:
        _native.set_parent_death_signal()
        if os.getppid() != zygote:
            return  # it died before the signal was asked for
        # First of all it becomes what its number says: an initializer, or any other code of the
        # user's, may open the parent's memory, and would be somebody else there.
        loop = _native.WorkerLoop(
            assignment.participant,
            assignment.control_offset,
            assignment.status_offset,
            assignment.reports_fd,
            settings["max_tasks_per_child"],
            settings["max_memory_per_child"],
        )
        worker.main(
            assignment,
            settings,
            lambda _, hooks: loop.run(hooks),
            _native.cancel_requested,
            _native.ask_again_if_ignored,
        )

    code = 1
    try:
        # Kept until the very end: a socket that is collected unclosed is warned about.
        server = Zygote(control_fd, _native.read_block, run_worker, _native.kill_with_descendants)
        code = server.serve()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _descriptors(attached: list[tuple[int, int, bytes]]) -> list[int]:
    """Return the file descriptors that came with a packet."""
    for level, kind, data in attached:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            whole = len(data) - len(data) % 4
            return memoryview(data[:whole]).cast("i").tolist()
    return []
