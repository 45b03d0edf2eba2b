"""A worker process from its fork to its end.

The zygote forks it and calls ``main``; the loop that claims and runs tasks is Rust's and comes back
here only for what Python knows best, through the hooks of ``Hooks``.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # what `signal` is made of
import builtins
import os
import sys
from _contextvars import Context, copy_context  # the same
from _functools import partial  # type: ignore[import-not-found]  # the same

from manyhands._errors.task_cancelled import TaskCancelled
from manyhands._interpreter import import_watch, late, own_place
from manyhands._worker import by_name, reports, stdio
from manyhands._worker import carry as _carry
from manyhands._worker.surroundings import Surroundings

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType
    from typing import Any, NoReturn

    from manyhands._worker.settings import Filter, Settings

__all__ = ["Assignment", "Hooks", "main"]

# Seconds that the queues of a worker whose initializer has failed may take to send what is in them.
_FLUSH_LIMIT = 1.0


# What imports `_pickle`, and so comes after the first task where that can do without.
_CONTEXT = "manyhands._pickle.context"
_FILTERS = "manyhands._interpreter.warning_filters"
_PICKLING = "manyhands._pickle.pickling"
_REMOTE_ERROR = "manyhands._pickle.remote_error"
# `pickling.loads`, once it has been needed.
_loads: Callable[[bytes | memoryview, Iterable[Any]], Any] | None = None


def _load_sent(data: bytes | memoryview, buffers: Iterable[Any] = ()) -> Any:
    global _loads
    try:
        if _loads is None:
            named = _load_named(data)
            if named is not None:
                return named
            _loads = late.module(_PICKLING).loads
        return _loads(data, buffers)
    except Exception as error:
        _note_arrival(error)
        raise


def _note_arrival(error: BaseException) -> None:
    # The task's code is not in the traceback, for it has not begun.
    error.add_note(
        "manyhands: raised in the worker while unpickling the function or arguments of the task"
    )


def _load_named(data: bytes | memoryview) -> Any:
    try:
        return by_name.find(data)
    except ModuleNotFoundError as error:
        late.module(_PICKLING).advise(error)
        raise


def _load(data: bytes) -> Any:
    return late.module("_pickle").loads(data)


def _dumps(result: object, place: str = "") -> Any:
    return late.module(_PICKLING).dumps(result, place)


def _dump_exception(error: BaseException, task: str, problem: BaseException | None = None) -> Any:
    return late.module(_REMOTE_ERROR).dump_exception(error, task, problem)


def _apply_context(data: bytes) -> Any:
    return late.module(_CONTEXT).apply_context(data)


class Assignment:
    """Which worker a new process will be.

    Attributes:
        participant: number of the worker among the participants of the parent's segment.
        generation: tells it from earlier workers of the same number.
        control_offset: where in the segment the pool's block is, in bytes.
        status_offset: where in the segment the worker's own block is, in bytes.
        index: its place among the workers of its pool.
        stdout_fd, stderr_fd, reports_fd: write ends of its pipes to the parent.
    """

    __slots__ = (
        "control_offset",
        "generation",
        "index",
        "participant",
        "reports_fd",
        "status_offset",
        "stderr_fd",
        "stdout_fd",
    )

    def __init__(
        self,
        pipes: list[int],
        participant: int,
        generation: int,
        control_offset: int,
        status_offset: int,
        index: int,
    ) -> None:
        self.participant = participant
        self.generation = generation
        self.control_offset = control_offset
        self.status_offset = status_offset
        self.index = index
        self.stdout_fd, self.stderr_fd, self.reports_fd = pipes


class Hooks:
    """What the worker's loop calls.

    Attributes:
        loads: ``loads(data, buffers) -> object``.
        note_arrival: says in an error that what the task was sent could not be unpickled.
        dumps: ``dumps(result, place) -> (bytes, buffers)``.
        carry: the function that calls its first argument, by which others are sent.
        dump_exception: ``dump_exception(error, task_name) -> bytes``; never raises.
        apply_context: ``apply_context(bytes) -> contextvars.Context`` to run one task in; call it
            after the task's function has been loaded, which may import the variables' modules.
        fresh_context: the same, for a task that came without variables.
        settings: what the parent has said about itself.
    """

    loads = staticmethod(_load_sent)
    note_arrival = staticmethod(_note_arrival)
    dumps = staticmethod(_dumps)
    dump_exception = staticmethod(_dump_exception)
    carry = staticmethod(_carry.carry)
    apply_context = staticmethod(_apply_context)

    def __init__(self, surroundings: Surroundings, settings: Settings) -> None:
        self.settings = settings
        self._surroundings = surroundings
        self.fresh_context: Callable[[], Context] = Context
        base = copy_context()
        # catch_warnings() leaves its variable behind, on Pythons where it has one.
        if base and not all(map(late.module(_FILTERS).is_their_context, base)):
            context = late.module(_CONTEXT)
            context.use_base(base)
            self.fresh_context = context.fresh_context

    def finish_task(self, error: BaseException | None = None) -> bool:
        """Restore what the task has changed; call it before its result is sent.

        In a child that the task has forked it does not return: the child ends here, because it
        is no worker.

        Args:
            error: what the task has raised, or None.

        Returns:
            True if the task has done anything that needed a closer look, for example printed.
        """
        surroundings = self._surroundings
        if not surroundings.touched and surroundings.has_streams():
            return False
        if surroundings.forked:
            _end_forked_child(error)
        surroundings.finish_task()
        return True

    def get_ready(self) -> None:
        """Import what failures are reported with; call it when the worker has been idle for long.

        On a bad day there may be neither descriptors nor memory for it.
        """
        for name in (_REMOTE_ERROR, _CONTEXT, "linecache", "traceback"):
            late.module(name)

    def idle(self) -> None:
        """Look at everything that a task may have changed; call it when there are no tasks."""
        self._surroundings.restore()


def main(
    assignment: Assignment,
    settings: Settings,
    run_loop: Callable[[Assignment, Hooks], None],
    cancel_requested: Callable[[], bool],
    ask_again_if_ignored: Callable[[Callable[[Any], object], Any], None],
) -> NoReturn:
    """Run a worker; never returns.

    Args:
        assignment: which worker this is, and its pipes.
        settings: what the parent has said about itself.
        run_loop: runs tasks until no more will come.
        cancel_requested: whether the task that runs at this moment should end.
        ask_again_if_ignored: asks it once more if nothing was heard of that; the hook before goes
            along, for all else.
    """
    code = 1
    own_place.process_index = assignment.index
    surroundings = Surroundings()
    try:
        pipe = _set_up(assignment, settings, surroundings)
        _handle_signals(cancel_requested)
        sys.unraisablehook = partial(ask_again_if_ignored, sys.unraisablehook)
        finalizer = _initialize(settings["setup"], pipe)
        if surroundings.forked:  # by the initializer
            _end_forked_child(None)
        surroundings.remember()
        run_loop(assignment, Hooks(surroundings, settings))
        if finalizer is not None:
            finalizer()
        code = 0
    except SystemExit as error:
        code = exit_code(error)
    except BaseException:
        _print_exception()
    finally:
        _end(code)


def _set_up(
    assignment: Assignment, settings: Settings, surroundings: Surroundings
) -> reports.ReportPipe:
    label = f"worker-{assignment.participant}"
    surroundings.use_streams(
        stdio.WorkerStreams(
            assignment.stdout_fd, assignment.stderr_fd, surroundings.note_output, surroundings.mark
        )
    )
    surroundings.watch()
    if settings["faulthandler"]:
        import faulthandler

        faulthandler.enable(2)
    pipe = reports.ReportPipe(assignment.reports_fd, surroundings.note_output)
    reports.forward_logging(pipe, settings["logging"], label)
    reports.forward_warnings(pipe)
    _use_warning_filters(settings["warning_filters"])
    _join_multiprocessing(settings, label)
    _make_main()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()  # preloaded: every fork would draw the same numbers
    return pipe


def _use_warning_filters(sent: list[tuple[str, Filter | bytes]] | None) -> None:
    """Make the parent's filters the worker's; each as soon as the module of its category is there.

    Importing the module for it could take longer than all else that a worker does to start, and
    before it is imported, nothing raises the warnings that it defines.
    """
    import warnings

    if sent is None:
        return
    taken: list[object] = [None] * len(sent)
    filters: list[object] = warnings.filters  # type: ignore[assignment]
    filters.clear()

    def take() -> None:
        # From the last to the first: each is put before the next one that is there.
        place = len(filters)
        for index in reversed(range(len(sent))):
            module, item = sent[index]
            if taken[index] is None and module in sys.modules:
                try:
                    taken[index] = _made_filter(item)
                except Exception:
                    continue  # half imported, or it cannot be made here: no task can raise it
                filters.insert(place, taken[index])
            elif taken[index] in filters:
                place = filters.index(taken[index])
        warnings._filters_mutated()  # type: ignore[attr-defined]

    take()
    for module in {module for module, _ in sent if module not in sys.modules}:
        import_watch.after_import(module, take)


def _made_filter(sent: Filter | bytes) -> object:
    if isinstance(sent, tuple):
        action, message, name, about, line = sent
        return action, message, getattr(builtins, name), about, line
    late.module("re")  # it is for a pattern, mostly, that a filter is not plain
    action, message, category, about, line = _load(sent)
    return action, message, _load(category), about, line


def _join_multiprocessing(settings: Settings, label: str) -> None:
    """Make this a process that multiprocessing's objects of the parent work in."""
    authkey, tracker_fd = settings["authkey"], settings["tracker_fd"]

    def introduce() -> None:
        process = sys.modules["multiprocessing.process"].current_process()
        process.name = label
        process.authkey = authkey

    def share_tracker() -> None:
        sys.modules["multiprocessing.resource_tracker"]._resource_tracker._fd = tracker_fd

    import_watch.after_import("multiprocessing.process", introduce)
    if tracker_fd is not None:
        import_watch.after_import("multiprocessing.resource_tracker", share_tracker)


def _make_main() -> None:
    """Give the worker a ``__main__`` of its own in place of the zygote's start-up code."""
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = module
    own_place.main_globals = module.__dict__


def _handle_signals(cancel_requested: Callable[[], bool]) -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        # Without a condemned task it is a Ctrl-C on the terminal, which is the parent's business.
        if cancel_requested():
            raise TaskCancelled("the task was asked to stop")

    signal.signal(signal.SIGINT, interrupt)
    # Comes after a SIGINT that may have been too early to end a system call: this one ends it.
    signal.signal(signal.SIGURG, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _initialize(setup: bytes | None, pipe: reports.ReportPipe) -> Callable[[], object] | None:
    """Run the initializer; return the finalizer. A failure is reported, and ends the worker."""
    if setup is None:
        return None
    finalizer: Callable[[], object] | None
    try:
        initializer, initargs, finalizer = _load(setup)
        if initializer is not None:
            initializer(*initargs)
    except BaseException as error:
        text = late.module(_REMOTE_ERROR).traceback_text(error)
        try:
            _log_failure()
        except BaseException:
            pass  # there is too little of something for it; the parent logs it all the same
        pipe.send(reports.BROKEN, text.encode("utf-8", "backslashreplace"))
        _end(1)
    return finalizer


def _log_failure() -> None:
    """Log that the initializer has failed, for handlers that it has itself installed.

    As in the standard library. The parent logs it, too: once, however many workers have failed.
    """
    import logging

    logging.getLogger("concurrent.futures").critical(
        "Exception in initializer:", exc_info=True, extra={"manyhands_told": True}
    )
    _flush_queues()


def _flush_queues() -> None:
    """Send off what is left in multiprocessing's queues: such handlers of logging have one.

    Whoever hears that the initializer has failed finds there what it said, as with the standard
    library. With a limit, because a queue that nobody reads may be full.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        from manyhands._interpreter.sure_thread import SureThread

        flush = SureThread(target=util._run_finalizers, daemon=True)
        flush.start()
        flush.join(_FLUSH_LIMIT)


def exit_code(error: SystemExit) -> int:
    """Return the exit code that ``sys.exit(...)`` asks for; a message goes to ``sys.stderr``."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _end_forked_child(error: BaseException | None) -> NoReturn:
    code = 0
    if isinstance(error, SystemExit):
        code = exit_code(error)
    elif error is not None:
        import traceback

        traceback.print_exception(error)
        code = 1
    _flush()
    os._exit(code)


def _end(code: int) -> NoReturn:
    """End the process as an interpreter would end, but for the zygote's half of it."""
    try:
        import atexit

        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        _print_exception()
    _flush()
    os._exit(code)


def _print_exception() -> None:
    try:
        import traceback

        traceback.print_exc()
    except BaseException:
        pass  # there is nobody left to tell


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            continue  # closed, or the parent has gone
