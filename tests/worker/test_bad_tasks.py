"""Tasks that misbehave harm nobody else."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import eventually, is_running


@pytest.fixture
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(tasks.pid).result()
        yield executor


def check_unharmed(executor: mh.ProcessPoolExecutor) -> None:
    """Check that the one worker is still the first one, and works."""
    assert executor.submit(tasks.square, 3).result() == 9
    (worker,) = executor.statistics()["workers"]
    assert worker["restarts"] == 0


# What cannot be pickled


def iter_nothing() -> Iterator[int]:
    yield from ()


class Holder:
    def __init__(self) -> None:
        self.inner = {"lock": threading.Lock()}


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        (threading.Lock(), "lock"),
        ([1, {"key": threading.Lock()}], "['key']"),
        (Holder(), ".inner['lock']"),
        (iter_nothing(), "generator"),
        (sys, "module"),
    ],
    ids=["lock", "in a container", "in an attribute", "generator", "module"],
)
def test_an_argument_that_cannot_be_pickled_is_named_at_submit(
    pool: mh.ProcessPoolExecutor, argument: object, name: str
) -> None:
    if argument is sys:  # by value, a module of the standard library is just its name
        assert pool.submit(tasks.identity, argument).result() is sys
        return
    with pytest.raises((TypeError, pickle.PicklingError)) as caught:
        pool.submit(tasks.identity, argument)
    assert name in str(caught.value)
    with pytest.raises((TypeError, pickle.PicklingError), match="keyword"):
        pool.submit(tasks.everything, keyword=argument)
    assert pool.statistics()["queued"] == 0
    check_unharmed(pool)


def test_a_function_that_cannot_be_pickled_is_named_at_submit(
    pool: mh.ProcessPoolExecutor,
) -> None:
    captured = threading.Lock()
    with pytest.raises((TypeError, pickle.PicklingError), match="captured"):
        pool.submit(lambda: captured.locked())
    check_unharmed(pool)


def test_a_map_over_what_cannot_be_pickled(pool: mh.ProcessPoolExecutor) -> None:
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        list(pool.map(tasks.identity, [1, 2, threading.Lock()]))
    check_unharmed(pool)


class RaisesWhenPickled:
    def __reduce__(self) -> tuple[Any, ...]:
        raise OSError("pickled by accident")


class ExitsWhenPickled:
    def __reduce__(self) -> tuple[Any, ...]:
        raise SystemExit(3)


class RaisesWhenLoaded:
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",))


class ExitsWhenLoaded:
    def __reduce__(self) -> tuple[Any, ...]:
        return (sys.exit, (3,))


class Twisted(Exception):
    """Pickles, but cannot be unpickled: its __init__ wants more than `args` holds."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def test_an_argument_whose_own_code_raises(pool: mh.ProcessPoolExecutor) -> None:
    with pytest.raises(OSError, match="pickled by accident"):
        pool.submit(tasks.identity, RaisesWhenPickled())
    with pytest.raises(ValueError, match="no number"):
        pool.submit(tasks.identity, RaisesWhenLoaded()).result()
    with pytest.raises(SystemExit):
        pool.submit(tasks.identity, ExitsWhenLoaded()).result()
    check_unharmed(pool)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (threading.Lock, TypeError, "lock"),
        (lambda: {"deep": [threading.Lock()]}, TypeError, r"\['deep'\]\[0\]"),
        (iter_nothing, TypeError, "generator"),
        (RaisesWhenPickled, OSError, "pickled by accident"),
        (ExitsWhenPickled, SystemExit, "3"),
        (RaisesWhenLoaded, ValueError, "no number"),
        (ExitsWhenLoaded, SystemExit, "3"),
    ],
)
def test_a_result_that_does_not_travel(
    pool: mh.ProcessPoolExecutor,
    make: Callable[[], object],
    error: type[BaseException],
    words: str,
) -> None:
    future = pool.submit(make)
    with pytest.raises(error, match=words):
        future.result()
    check_unharmed(pool)


def test_an_exception_whose_arguments_do_not_make_it_anew(pool: mh.ProcessPoolExecutor) -> None:
    def fail() -> None:
        raise Twisted(1, 2)

    with pytest.raises(Twisted, match="1 and 2") as caught:
        pool.submit(fail).result()
    assert "Traceback" in str(caught.value.__cause__)
    check_unharmed(pool)


def test_an_exception_of_which_not_all_travels(pool: mh.ProcessPoolExecutor) -> None:
    def fail() -> None:
        raise Unpicklable("has a lock")

    with pytest.raises(Unpicklable, match="has a lock") as caught:
        pool.submit(fail).result()
    assert caught.value.lock is None
    assert caught.value.__notes__[0].endswith("cannot be pickled: lock")
    assert "Traceback" in str(caught.value.__cause__)
    check_unharmed(pool)


def test_a_callable_object_and_an_exception_class(pool: mh.ProcessPoolExecutor) -> None:
    with pytest.raises(RecursionError):
        pool.submit(tasks.fail, RecursionError("deep")).result()
    with pytest.raises(BaseExceptionGroup) as caught:
        pool.submit(tasks.fail, ExceptionGroup("two", [OSError("a"), KeyError("b")])).result()
    assert [type(each) for each in caught.value.exceptions] == [OSError, KeyError]
    check_unharmed(pool)


# What a task does to its process


@pytest.mark.parametrize("code", [None, 0, 3, "a message"])
def test_sys_exit_is_an_exception(pool: mh.ProcessPoolExecutor, code: str | int | None) -> None:
    with pytest.raises(SystemExit) as caught:
        pool.submit(sys.exit, code).result()
    assert caught.value.code == code
    check_unharmed(pool)


@pytest.mark.parametrize("error", [KeyboardInterrupt("a"), GeneratorExit(), BaseException("b")])
def test_exceptions_that_are_no_exceptions(
    pool: mh.ProcessPoolExecutor, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        pool.submit(tasks.fail, error).result()
    check_unharmed(pool)


def close_streams() -> None:
    for number in (0, 1, 2):
        os.close(number)


def close_objects() -> None:
    sys.stdin.close()
    sys.stdout.close()
    sys.stderr.close()


def replace_streams() -> None:
    descriptor = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(descriptor, number)
    os.close(descriptor)
    sys.stdout = sys.stderr = tasks.state["null"] = open(os.devnull, "w")  # noqa: SIM115


def close_everything() -> None:
    os.closerange(0, 3)


@pytest.mark.parametrize("harm", [close_streams, close_objects, replace_streams, close_everything])
def test_closed_and_replaced_streams(
    pool: mh.ProcessPoolExecutor,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    harm: Callable[[], None],
) -> None:
    pool.submit(harm).result()
    pool.submit(tasks.say, "still here").result()
    pool.submit(tasks.say, "here, too", "stderr").result()
    assert capsys.readouterr() == ("still here\n", "here, too\n")

    def lowest() -> int:
        with (tmp_path / "file").open("w") as stream:
            return stream.fileno()

    assert pool.submit(lowest).result() > 2, "a file of a task must not become its stdout"
    check_unharmed(pool)


def test_a_change_of_directory(pool: mh.ProcessPoolExecutor, tmp_path: Path) -> None:
    pool.submit(os.chdir, tmp_path).result()
    assert pool.submit(os.getcwd).result() == os.getcwd()
    check_unharmed(pool)


def test_a_directory_that_is_removed_under_a_task(
    pool: mh.ProcessPoolExecutor, tmp_path: Path
) -> None:
    def enter_and_remove() -> None:
        folder = tmp_path / "gone"
        folder.mkdir()
        os.chdir(folder)
        folder.rmdir()

    pool.submit(enter_and_remove).result()
    assert pool.submit(os.getcwd).result() == os.getcwd()
    check_unharmed(pool)


def fork_and_return() -> str:
    """Both parent and child come back from here: only the parent may go on as a worker."""
    return "child" if os.fork() == 0 else "parent"


def fork_and_raise() -> str:
    if os.fork() == 0:
        raise ValueError("in the child")
    return "parent"


def fork_and_exit() -> int:
    child = os.fork()
    if child == 0:
        sys.exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_task_that_forks(pool: mh.ProcessPoolExecutor, capfd: pytest.CaptureFixture[str]) -> None:
    assert [pool.submit(fork_and_return).result() for _ in range(5)] == ["parent"] * 5
    assert pool.submit(fork_and_raise).result() == "parent"
    assert pool.submit(fork_and_exit).result() == 5
    eventually(lambda: "in the child" in capfd.readouterr().err, "the child's error is shown")
    assert pool.statistics()["done"] == 8
    check_unharmed(pool)


def test_a_fork_while_arguments_are_in_shared_memory(pool: mh.ProcessPoolExecutor) -> None:
    data = os.urandom(3_000_000)

    def fork_and_echo(data: bytes) -> bytes:
        if os.fork() == 0:
            os._exit(len(data) & 1)
        os.wait()
        return data

    for _ in range(3):
        assert pool.submit(fork_and_echo, data).result() == data
    check_unharmed(pool)


def test_a_subprocess_that_outlives_its_task(pool: mh.ProcessPoolExecutor) -> None:
    def start() -> int:
        return subprocess.Popen(["sleep", "60"], start_new_session=True).pid

    def reap(pid: int) -> int:
        os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    pid = pool.submit(start).result()
    assert is_running(pid)
    check_unharmed(pool)
    assert pool.submit(reap, pid).result() == -signal.SIGKILL


def test_threads_that_outlive_their_task(pool: mh.ProcessPoolExecutor) -> None:
    def start() -> int:
        for _ in range(5):
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        return threading.active_count()

    assert pool.submit(start).result() == 6
    check_unharmed(pool)


def test_a_thread_that_is_no_daemon_is_waited_for_at_the_end(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(
            lambda: threading.Thread(target=tasks.nap, args=(0.1, 1), daemon=False).start()
        ).result()
        check_unharmed(executor)


@pytest.mark.on_each_python
def test_changed_signal_handlers(pool: mh.ProcessPoolExecutor, tmp_path: Path) -> None:
    def change() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.alarm(1)

    pool.submit(change).result()
    assert pool.submit(signal.alarm, 0).result() == 0
    assert pool.submit(signal.getsignal, signal.SIGTERM).result() is signal.SIG_DFL
    future = pool.submit(tasks.sleep_for_ever, tmp_path)
    eventually((tmp_path / "task.pid").exists, "the task begins")
    assert future.cancel()
    eventually((tmp_path / "task-stopped.pid").exists, "the task is told to stop")
    check_unharmed(pool)


def test_an_endless_recursion(pool: mh.ProcessPoolExecutor) -> None:
    def recurse(number: int) -> int:
        return recurse(number + 1)

    with pytest.raises(RecursionError):
        pool.submit(recurse, 0).result()
    check_unharmed(pool)


# Initializers


@pytest.mark.parametrize("workers", [1, 3])
def test_an_initializer_that_fails_says_so_once(
    workers: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with mh.ProcessPoolExecutor(
        max_workers=workers, initializer=tasks.fail, initargs=(ValueError("not today"),)
    ) as executor:
        futures = [executor.submit(tasks.square, number) for number in range(10)]
        for future in futures:
            with pytest.raises(BrokenProcessPool, match=r"(?s)^the initializer failed.*not today"):
                future.result()
        with pytest.raises(BrokenProcessPool, match="not today"):
            executor.submit(tasks.square, 1)
    records = [record for record in caplog.records if record.name == "concurrent.futures"]
    assert [record.levelno for record in records] == [logging.CRITICAL]
    assert records[0].getMessage().startswith("Exception in initializer:")
    assert "not today" in records[0].getMessage()
    assert capfd.readouterr().err.count("not today") <= 1


def test_an_initializer_that_calls_sys_exit() -> None:
    with mh.ProcessPoolExecutor(
        max_workers=1, initializer=sys.exit, initargs=("had enough",)
    ) as executor:
        with pytest.raises(BrokenProcessPool, match="had enough"):
            executor.submit(tasks.square, 1).result()


def test_an_initializer_that_cannot_be_pickled() -> None:
    lock = threading.Lock()
    with mh.ProcessPoolExecutor(max_workers=1, initializer=lambda: lock.locked()) as executor:
        with pytest.raises((TypeError, pickle.PicklingError, RuntimeError), match="lock"):
            executor.submit(tasks.square, 1)


def test_a_finalizer_that_fails_harms_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with mh.ProcessPoolExecutor(
        max_workers=1, finalizer=lambda: tasks.fail(ValueError("at the end"))
    ) as executor:
        assert executor.submit(tasks.square, 3).result() == 9
    assert "ValueError: at the end" in capfd.readouterr().err
