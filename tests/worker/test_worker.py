"""A worker around its tasks: what they print and log, and what they do to their process.

The processes and pipes are real; the stand-in for the task loop is worker_program.py.
"""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manyhands._errors.base import TaskCancelled
from manyhands._pickle import context
from zygote_process import Worker, ZygoteProcess, zygotes

user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ZygoteProcess]]:
    """Start zygotes."""
    with zygotes(tmp_path) as start_one:
        yield start_one


@pytest.fixture
def worker(start: Callable[..., ZygoteProcess]) -> Worker:
    """Return the one worker of a zygote of its own."""
    zygote = start()
    assert zygote.ready == b"R"
    return zygote.fork()


# What tasks say


def test_prints_are_flushed_when_the_task_ends(worker: Worker) -> None:
    worker.send(print, "a", "b")
    assert worker.receive() == (None, True)
    assert worker.output() == b"a b\n"
    assert worker.run(lambda: sys.stdout.write("no end of line")) == 14
    assert worker.output() == b"no end of line"
    worker.run(lambda: print("trouble", file=sys.stderr))
    assert worker.output(1) == b"trouble\n"
    worker.send(abs, -1)
    assert worker.receive() == (1, False)


def test_c_code_and_subprocesses_are_heard(worker: Worker) -> None:
    worker.run(os.write, 1, b"raw\n")
    worker.run(os.system, "echo from a shell; echo trouble >&2")
    assert worker.output() == b"raw\nfrom a shell\n"
    assert worker.output(1) == b"trouble\n"


def test_any_text_can_be_printed(worker: Worker) -> None:
    worker.run(print, "✋\udcff")
    assert worker.output() == "✋".encode() + b"\xff\n"
    worker.run(lambda: print("\udcff", file=sys.stderr))
    assert worker.output(1) == b"\\udcff\n"


def test_there_is_nothing_to_read(worker: Worker) -> None:
    assert worker.run(lambda: sys.stdin.read()) == ""
    assert worker.run(os.read, 0, 10) == b""
    with pytest.raises(EOFError):
        worker.run(input)


def test_log_records_are_forwarded(
    start: Callable[..., ZygoteProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("verbose.part"), "level", logging.DEBUG)

    def task() -> None:
        import logging

        logging.getLogger("verbose.part").debug("shown %s", ["x"])
        logging.getLogger("else").info("not shown")
        try:
            raise KeyError("oops")
        except KeyError:
            logging.getLogger("else").exception("failed")

    worker = start().fork(6)
    worker.run(task)
    (kind, first), (_, second) = worker.reports()
    assert kind == b"L"
    assert (first["name"], first["msg"], first["args"]) == ("verbose.part", "shown ['x']", None)
    assert first["processName"] == "worker-6"
    assert second["msg"] == "failed"
    assert "KeyError: 'oops'" in second["exc_text"]
    assert worker.output(1) == b""


def test_warnings_are_forwarded_as_the_parents_filters_want(
    start: Callable[..., ZygoteProcess],
) -> None:
    def task() -> None:
        import warnings

        warnings.warn("careful", UserWarning, stacklevel=1)
        warnings.warn("hush", DeprecationWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("default", UserWarning)
        worker = start().fork()
        warnings.simplefilter("error", UserWarning)
        strict = start().fork()
    worker.run(task)
    ((kind, (text, category, filename, _, module)),) = worker.reports()
    assert (kind, text, category) == (b"W", "careful", UserWarning)
    assert (filename, module) == (__file__, __name__)
    assert worker.output(1) == b""
    with pytest.raises(UserWarning, match="careful"):
        strict.run(task)


def test_context_variables_reach_the_task_and_no_other(worker: Worker) -> None:
    def dump() -> bytes:
        user.set("ann")
        return context.dump_context()

    data = contextvars.Context().run(dump)
    assert worker.run(user.get, "nobody", context=data) == "ann"
    assert worker.run(user.get, "nobody") == "nobody"
    worker.run(lambda: user.set("eve") and None)
    assert worker.run(user.get, "nobody") == "nobody"


# What tasks do to their process


def test_the_working_directory_is_put_back(worker: Worker, tmp_path: Path) -> None:
    home = worker.run(os.getcwd)
    for change in (os.chdir, lambda path: os.fchdir(os.open(path, os.O_RDONLY))):
        worker.send(change, str(tmp_path))
        assert worker.receive() == (None, True)
        assert worker.run(os.getcwd) == home


def test_a_change_behind_pythons_back_is_put_right_when_idle(worker: Worker) -> None:
    def chdir_in_c(path: bytes) -> None:
        import ctypes

        ctypes.CDLL(None).chdir(path)

    home = worker.run(os.getcwd)
    worker.run(chdir_in_c, b"/")
    worker.idle()
    assert worker.run(os.getcwd) == home


def test_closed_descriptors_are_put_back(worker: Worker, tmp_path: Path) -> None:
    for number in (0, 1, 2):
        worker.run(os.close, number)

    def opens_a_file(path: str) -> int:
        with open(path, "w") as file:
            return file.fileno()

    assert worker.run(opens_a_file, str(tmp_path / "file")) > 2
    worker.run(os.closerange, 0, 3)
    worker.run(print, "heard")
    worker.run(os.write, 2, b"heard, too\n")
    assert worker.output() == b"heard\n"
    assert worker.output(1) == b"heard, too\n"
    assert worker.run(lambda: sys.stdin.read()) == ""


def test_a_task_that_closes_stdout_may_go_on_printing(worker: Worker) -> None:
    def task() -> None:
        os.close(1)
        print("still heard")

    worker.run(task)
    assert worker.output() == b"still heard\n"


def test_redirected_descriptors_are_put_back(worker: Worker, tmp_path: Path) -> None:
    def redirect(path: str) -> None:
        with open(path, "w") as file:
            os.dup2(file.fileno(), 1)
        print("into the file")

    target = tmp_path / "file"
    worker.run(redirect, str(target))
    worker.run(print, "heard")
    assert worker.output() == b"heard\n"
    assert target.read_text() == "into the file\n"


def test_replaced_and_closed_streams_are_put_back(worker: Worker) -> None:
    def replace() -> None:
        import io

        sys.stdout = io.StringIO()
        sys.stderr = sys.stdin = sys.stdout

    def close() -> None:
        sys.stdout.close()
        sys.stderr.close()
        sys.stdin.close()

    def remove() -> None:
        sys.stdout = None
        del sys.stderr

    def remove_more() -> None:
        del sys.stdout

    for harm in (replace, close, remove, remove_more, lambda: delattr(sys, "stderr")):
        worker.run(harm)
        worker.run(print, "heard")
        worker.run(lambda: print("heard, too", file=sys.stderr))
        assert worker.output() == b"heard\n"
        assert worker.output(1) == b"heard, too\n"
        assert worker.run(lambda: sys.stdin.read()) == ""


def test_signal_handlers_and_alarms_are_put_back(worker: Worker) -> None:
    def set_handlers() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.alarm(1000)
        signal.setitimer(signal.ITIMER_PROF, 1000)

    def look() -> tuple[bool, bool, int, float]:
        return (
            callable(signal.getsignal(signal.SIGINT)),
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            signal.alarm(0),
            signal.getitimer(signal.ITIMER_PROF)[0],
        )

    worker.run(set_handlers)
    assert worker.run(look) == (True, True, 0, 0.0)


def test_sigint_ends_only_a_condemned_task(worker: Worker) -> None:
    def interrupted() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "went on"

    def condemned() -> None:
        os.environ["CONDEMNED"] = "1"
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            del os.environ["CONDEMNED"]

    assert worker.run(interrupted) == "went on"
    with pytest.raises(TaskCancelled):
        worker.run(condemned)
    assert worker.run(abs, -1) == 1


def test_exit_in_a_task_is_the_futures_exception(worker: Worker) -> None:
    for leave, kind in ((sys.exit, SystemExit), (_raise_interrupt, KeyboardInterrupt)):
        with pytest.raises(kind):
            worker.run(leave)
    assert worker.run(os.getpid) == worker.pid


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_a_forked_child_never_acts_as_a_worker(worker: Worker) -> None:
    def fork_and_return() -> tuple[str, int]:
        print("before")
        pid = os.fork()
        print("child" if pid == 0 else "worker")
        return "returned", pid

    def fork_and_raise(error: BaseException) -> int:
        pid = os.fork()
        if pid == 0:
            raise error
        return pid

    def exit_code(pid: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    text, pid = worker.run(fork_and_return)
    assert text == "returned"
    assert worker.run(exit_code, pid) == 0
    assert sorted(worker.output().split()) == [b"before", b"child", b"worker"]
    assert worker.run(exit_code, worker.run(fork_and_raise, SystemExit(7))) == 7
    assert worker.run(exit_code, worker.run(fork_and_raise, ValueError("in the child"))) == 1
    assert b"ValueError: in the child" in worker.output(1)
    assert worker.run(os.getpid) == worker.pid


def test_a_child_forked_by_the_initializer_never_acts_as_a_worker(
    start: Callable[..., ZygoteProcess],
) -> None:
    def initialize() -> None:
        import builtins

        builtins.forked_pid = os.fork()  # type: ignore[attr-defined]

    worker = start(initializer=initialize).fork()
    child = worker.run(lambda: forked_pid)  # type: ignore[name-defined]  # noqa: F821
    assert worker.run(os.waitpid, child, 0) == (child, 0)
    assert worker.run(os.getpid) == worker.pid


def test_ctrl_c_reaches_a_forked_child(worker: Worker) -> None:
    def fork() -> int:
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(tell, b"x")
                signal.pause()
            except KeyboardInterrupt:
                os._exit(9)
        os.read(ready, 1)
        os.kill(pid, signal.SIGINT)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert worker.run(fork) == 9


def test_a_forked_child_may_log_and_warn(worker: Worker) -> None:
    def task() -> int:
        import logging

        logging.getLogger("l").warning("from the worker")
        pid = os.fork()
        if pid == 0:
            logging.getLogger("l").warning("from the child")
        return pid

    pid = worker.run(task)
    worker.run(os.waitpid, pid, 0)
    assert [fields["msg"] for _, fields in worker.reports()] == ["from the worker"]
    assert b"from the child" in worker.output(1)


def test_threads_may_go_on_printing(worker: Worker) -> None:
    def start_thread() -> None:
        import builtins

        def later() -> None:
            event.wait()
            sys.stdout.write("later")

        event = threading.Event()
        thread = threading.Thread(target=later)
        thread.start()

        def wake() -> None:
            event.set()
            thread.join()

        builtins.wake = wake  # type: ignore[attr-defined]

    worker.run(start_thread)
    worker.run(lambda: wake())  # type: ignore[name-defined]  # noqa: F821
    worker.idle()
    assert worker.output() == b"later"


def test_a_result_that_cannot_be_pickled_is_an_error(worker: Worker) -> None:
    def check() -> str:

        from manyhands._pickle import pickling

        try:
            pickling.dumps({"k": threading.Lock()}, "result")
        except TypeError as error:
            return str(error)
        return ""

    assert "the object is result['k']: <unlocked" in worker.run(check)
