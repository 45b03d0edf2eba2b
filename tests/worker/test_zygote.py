"""The zygote: real processes, sockets and pipes; only the task loop is a stand-in.

The stand-in, worker_program.py, calls the same hooks as the native loop.
"""

from __future__ import annotations

import errno
import functools
import marshal
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands
from manyhands._worker import settings as _settings
from zygote_process import PACKAGE_DIR, PROGRAM, ZygoteProcess, has_ended, zygotes


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ZygoteProcess]]:
    """Start zygotes."""
    with zygotes(tmp_path) as start_one:
        yield start_one


# The protocol


def test_workers_are_forked_run_tasks_and_are_reaped(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start()
    assert zygote.ready == b"R"
    first, second = zygote.fork(1, 10), zygote.fork(2, 20)
    assert first.run(os.getpid) == first.pid
    assert second.run(os.getppid) == zygote.process.pid
    second.end()
    assert zygote.reaped(second, 20) == 0
    os.kill(first.pid, signal.SIGKILL)
    assert zygote.reaped(first, 10) == -signal.SIGKILL
    replacement = zygote.fork(1, 11)
    assert replacement.run(abs, -3) == 3


def test_a_worker_that_cannot_be_forked_is_reported(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start()
    zygote.request(b"F" + struct.pack("<IIQQI", 4, 9, 0, 0, 0))  # without its pipes
    assert zygote.answer() == b"N" + struct.pack("<IIi", 4, 9, errno.EMFILE)
    assert zygote.fork().run(abs, -1) == 1


def test_quit_lets_workers_end_by_themselves(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start()
    worker = zygote.fork()
    zygote.request(b"Q")
    assert worker.run(len, "still here") == 10
    worker.end()
    assert zygote.reaped(worker) == 0
    assert zygote.answer() == b""
    assert zygote.process.wait(30) == 0


def test_quit_without_workers_ends_at_once(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start()
    zygote.request(b"Q")
    assert zygote.process.wait(30) == 0


def test_a_parent_that_goes_away_takes_all_along(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start()
    busy, free = zygote.fork(1), zygote.fork(2)
    busy.send(signal.pause)
    zygote.close()
    assert has_ended(busy.pid)
    assert has_ended(free.pid)


def test_a_killed_parent_takes_all_along_though_its_fork_keeps_the_socket(tmp_path: Path) -> None:
    # The parent is a process of its own here; the child it forks holds every descriptor it had.
    script = f"""
import os, sys, time
sys.path[:0] = [{str(PROGRAM.parent)!r}]
from pathlib import Path
from zygote_process import ZygoteProcess
zygote = ZygoteProcess(Path({str(tmp_path)!r}))
worker = zygote.fork()
if os.fork() == 0:
    sys.stdin.read()  # until the test ends it
    os._exit(0)
print(zygote.process.pid, worker.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        zygote_pid, worker_pid = map(int, parent.stdout.readline().split())
        assert parent.wait(30) == -signal.SIGKILL
        assert has_ended(worker_pid)
        assert has_ended(zygote_pid)


def test_preload_is_imported_once_for_all(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start(preload=["colorsys"])
    worker = zygote.fork()
    assert worker.run(lambda: "colorsys" in sys.modules)
    assert not worker.run(lambda: "this" in sys.modules)


def test_a_preload_that_fails_says_why(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start(preload=["no_such_module_anywhere"])
    assert zygote.ready[:1] == b"E"
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in zygote.ready.decode()
    assert zygote.process.wait(30) == 1


def test_unreadable_settings_say_why(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start(b"no settings")
    assert zygote.ready[:1] == b"E"
    assert b"bad marshal data" in zygote.ready
    assert zygote.process.wait(30) == 1


def test_a_zygote_of_another_version_says_so(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start(version="0.0.1")
    assert zygote.ready[:1] == b"E"
    told = zygote.ready[1:].decode()
    assert told.startswith("this program uses manyhands 0.0.1, but ")
    assert manyhands.__version__ in told
    assert zygote.process.wait(30) == 1


def test_a_program_is_told_that_its_manyhands_has_been_replaced(tmp_path: Path) -> None:
    # Only what the interpreter of a zygote imports says the other version: the program's own
    # number is compiled into it.
    (tmp_path / "sitecustomize.py").write_text(
        "from manyhands import _native\n_native.VERSION = '0.0.1'\n"
    )
    program = """
import manyhands as mh
with mh.ProcessPoolExecutor(1) as pool:
    print(pool.submit(abs, -1).exception(30))
"""
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=50,
    ).stdout.decode()
    assert told == (
        "workers cannot start, so this pool runs no tasks:\n"
        f"this program uses manyhands {manyhands.__version__}, but 0.0.1 has been installed since"
        " it was started; start it again\n"
    )


def test_workers_are_like_the_parent(
    start: Callable[..., ZygoteProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, "/somewhere/else"])
    monkeypatch.setattr(sys, "argv", ["program", "--option"])
    monkeypatch.setenv("MANYHANDS_TEST_GONE", "1")
    worker = start(env={"OMP_NUM_THREADS": "3", "MANYHANDS_TEST_GONE": None}).fork()
    assert worker.run(lambda: sys.path) == sys.path
    assert worker.run(lambda: sys.argv) == ["program", "--option"]
    assert worker.run(os.getcwd) == str(tmp_path)
    assert worker.run(os.getenv, "OMP_NUM_THREADS") == "3"
    assert worker.run(os.getenv, "MANYHANDS_TEST_GONE") is None
    names = worker.run(lambda: sorted(vars(sys.modules["__main__"])))
    assert "run_loop" not in names
    assert "__file__" not in names


def test_start_up_imports_nothing_it_could_do_without() -> None:
    source = """
import sys, os
sys.path[:0] = [sys.argv[1]]
from manyhands import _native; from manyhands._worker import zygote as _zygote, worker as _worker
heavy = "_pickle asyncio collections concurrent contextvars dataclasses enum functools inspect"
more = "logging multiprocessing pathlib pickle re signal struct subprocess tempfile threading"
print([name for name in (heavy + " traceback typing " + more).split()
       if name in sys.modules])
"""
    told = subprocess.run(
        [sys.executable, "-S", "-c", source, str(PACKAGE_DIR)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "[]\n"


def test_collector_is_on_and_what_was_there_is_frozen(
    start: Callable[..., ZygoteProcess],
) -> None:
    def look() -> tuple[bool, bool]:
        import gc

        return gc.isenabled(), gc.get_freeze_count() > 1000

    assert start().fork().run(look) == (True, True)


def test_numpy_draws_other_numbers_in_every_worker(start: Callable[..., ZygoteProcess]) -> None:
    zygote = start(preload=["numpy.random"])
    workers = [zygote.fork(number) for number in (1, 2)]
    drawn = [worker.run(lambda: sys.modules["numpy"].random.random()) for worker in workers]
    assert drawn[0] != drawn[1]


# Initializer and finalizer


def test_initializer_and_finalizer_run_in_the_worker(start: Callable[..., ZygoteProcess]) -> None:
    def initialize(value: int) -> None:
        import builtins

        builtins.the_value = value  # type: ignore[attr-defined]
        os.chdir("/")

    zygote = start(
        initializer=initialize, initargs=(42,), finalizer=functools.partial(print, "finished")
    )
    worker = zygote.fork()
    assert worker.run(lambda: the_value) == 42  # type: ignore[name-defined]  # noqa: F821
    assert worker.run(os.getcwd) == "/"
    worker.end()
    assert zygote.reaped(worker) == 0
    assert worker.output() == b"finished\n"


def test_exit_handlers_and_threads_are_waited_for(start: Callable[..., ZygoteProcess]) -> None:
    def prepare() -> None:
        import atexit
        import threading

        event = threading.Event()
        atexit.register(lambda: print("handler"))
        threading._register_atexit(event.set)  # type: ignore[attr-defined]
        threading.Thread(target=lambda: (event.wait(), print("thread"))).start()

    zygote = start()
    worker = zygote.fork()
    worker.run(prepare)
    worker.end()
    assert zygote.reaped(worker) == 0
    assert worker.output() == b"thread\nhandler\n"


def test_an_initializer_that_fails_is_reported(start: Callable[..., ZygoteProcess]) -> None:
    def initialize() -> None:
        raise ValueError("not like this")

    zygote = start(initializer=initialize)
    worker = zygote.fork_only()
    assert zygote.reaped(worker) == 1
    ((kind, text),) = worker.reports()
    assert kind == b"B"
    assert "ValueError: not like this" in text
    assert worker.output(1) == b""


def test_initargs_that_cannot_be_loaded_are_a_failed_initializer(
    start: Callable[..., ZygoteProcess],
) -> None:
    class Explodes:
        def __reduce__(self) -> Any:
            return exec, ("raise OSError('gone')",)

    zygote = start(initializer=print, initargs=(Explodes(),))
    worker = zygote.fork_only()
    assert zygote.reaped(worker) == 1
    ((kind, text),) = worker.reports()
    assert kind == b"B"
    assert "OSError: gone" in text


def test_multiprocessing_objects_in_initargs_work(tmp_path: Path) -> None:
    # In a process of its own: multiprocessing starts servants that live as long as it does.
    script = f"""
import sys, multiprocessing
sys.path[:0] = [{str(PROGRAM.parent)!r}]
from pathlib import Path
from zygote_process import ZygoteProcess
context = multiprocessing.get_context("spawn")
queue, lock = context.Queue(), context.Lock()
def initialize(queue, lock):
    import builtins
    builtins.queue, builtins.lock = queue, lock
zygote = ZygoteProcess(Path({str(tmp_path)!r}), initializer=initialize, initargs=(queue, lock))
workers = [zygote.fork(1), zygote.fork(2)]
with lock:
    print(workers[0].run(eval("lambda: lock.acquire(block=False)", {{}})))
for number, worker in enumerate(workers):
    worker.run(eval("lambda n: queue.put(n)", {{}}), number)
    print(queue.get(timeout=30))
    print(worker.run(lambda: __import__("multiprocessing").current_process().name))
    worker.end()
    print(zygote.reaped(worker))
print(zygote.close())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    lines = ["False", "0", "worker-1", "0", "1", "worker-2", "0", "b''"]
    assert done.stdout.split("\n") == [*lines, ""], done.stderr


# Settings


def test_multiprocessing_is_given_its_key_also_when_imported_later() -> None:
    source = """
import sys
sys.path[:0] = [sys.argv[1]]
from manyhands._worker import settings as _settings
key = _settings.collect()[0]["authkey"]
assert "multiprocessing" not in sys.modules
import multiprocessing
print(bytes(multiprocessing.current_process().authkey) == key, len(key))
print(_settings.collect()[0]["authkey"] == key)
"""
    told = subprocess.run(
        [sys.executable, "-c", source, str(PACKAGE_DIR)], capture_output=True, text=True, check=True
    )
    assert told.stdout == "True 32\nTrue\n"


def test_descriptors_of_a_lock_are_to_be_inherited() -> None:
    settings, descriptors = _settings.collect(preload=("json",))
    assert settings["setup"] is None
    assert settings["cwd"] == str(Path.cwd())
    assert "json" in settings["preload"]
    assert all(isinstance(number, int) for number in descriptors)
    assert marshal.loads(_settings.dump(settings)) == settings


def test_settings_may_be_of_classes_of_the_programs_own(
    start: Callable[..., ZygoteProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Text(str):
        __slots__ = ()

        def __reduce__(self) -> tuple[object, ...]:
            return str, (str(self),)

    monkeypatch.setattr(sys, "argv", [Text("program"), "--option"])
    worker = start().fork()
    assert worker.run(eval, "__import__('sys').argv") == ["program", "--option"]


def test_an_unpicklable_initializer_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"initargs\[1\]\[0\]: <unlocked"):
        _settings.collect(initializer=print, initargs=(threading.Lock(),))
