"""A signal handler that runs in the middle of an executor's first use.

Also of the first one of a process, in which modules are imported and shared memory is made.

Reports: python/cpython#121649. The handler found a lock taken by the very code that it interrupted;
one that raised left threads and descriptors behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import pkgutil
import subprocess
import sys
import threading
from typing import Any

import pytest

import manyhands
from manyhands import ProcessPoolExecutor
from manyhands._future.awaiting import _Bridge
from manyhands._interpreter.sure_thread import SureThread
from manyhands._pool import running
from rules import SUPPORT

PROGRAM = """
import gc, os, sys, threading, time
import manyhands as mh

FOLDER = os.path.dirname(mh.__file__)
mode, kind, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
make = {"process": mh.ProcessPoolExecutor, "thread": mh.ThreadPoolExecutor}[kind]

class Alarm(Exception):
    pass

def belongings():
    gc.collect()
    threads = [each for each in threading.enumerate() if each is not threading.main_thread()]
    return threads, len(os.listdir("/proc/self/fd"))

def use(make_act, at):
    # Calls `act` in the place of a signal handler, at the `at`-th line of ours.
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            seen += 1
            if seen == at:
                sys.settrace(None)
                act()
        return trace
    pool = make(1)
    act = make_act and make_act(pool)
    sys.settrace(trace)
    try:
        with pool:
            pool.submit(abs, -1)
    finally:
        sys.settrace(None)
    return seen

def raises(pool):
    def act():
        raise Alarm
    return act

def shuts_down(pool):
    return lambda: pool.shutdown(wait=True, cancel_futures=True)

def submits(pool):
    def act():
        future = pool.submit(abs, -2)
        if kind == "process":
            # Threads are started by the code that is interrupted here: to wait for one is no use.
            assert future.result(30) == 2
    return act

use(None, 0)
lines = use(None, 0)
before = belongings()
at, step = 0, max(1, lines // most)
while at < lines:
    at += step
    try:
        use({"raises": raises, "shuts down": shuts_down, "submits": submits}[mode], at)
    except Alarm:
        pass
    except RuntimeError as error:
        assert "after shutdown" in str(error), error
end = time.monotonic() + 30
while (left := belongings()) != before and time.monotonic() < end:
    time.sleep(0.01)
print(left == before or (before, left))
"""


def handle(mode: str, kind: str, most: int) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM, mode, kind, str(most)],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.once("the lines are ours; some of them show what an interpreter makes of them")
@pytest.mark.parametrize("mode", ["raises", "shuts down", "submits"])
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_handler_may_do_as_it_likes_at_every_line(mode: str, kind: str) -> None:
    handle(mode, kind, 60 if mode == "submits" else 100_000)


@pytest.mark.parametrize("mode", ["raises", "shuts down", "submits"])
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_a_handler_may_do_as_it_likes_at_some_lines(mode: str, kind: str) -> None:
    handle(mode, kind, 20)


FIRST = SUPPORT / "first_uses.py"


def interrupt(kind: str, most: int, patience: float, part: int = 0, parts: int = 1) -> None:
    done = subprocess.run(
        [sys.executable, str(FIRST), kind, *map(str, (most, part, parts))],
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert done.stderr == ""
    *found, last = done.stdout.splitlines()
    assert not found, "\n".join(found)
    struck, lines = map(int, last.removeprefix("struck ").removesuffix(" lines").split(" of "))
    # A line that is there in one run, but not in the others, has to do with how threads were run.
    assert struck > 0.9 * lines, last


KINDS = ["process", "thread", "pool", "shared", "objects"]
ALIKE = {
    each: pytest.mark.once("nearly all of its lines are those of a pool of processes")
    for each in ("pool", "shared")
}
PARTS = 4  # so that they can be run side by side


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=ALIKE.get(kind, ())) for kind in KINDS],
)
@pytest.mark.timeout(200)
def test_some_lines_of_the_first_use(kind: str) -> None:
    interrupt(kind, 30, 190)


@pytest.mark.faults
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(3600)
def test_every_line_of_the_first_use(kind: str, part: int) -> None:
    interrupt(kind, 100_000, 3500, part, PARTS)


def test_a_handler_that_raises_when_a_thread_has_just_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # `threading` took the thread out of its list once more, so that a KeyError hid what was raised.
    names = ["_start_joinable_thread", "_start_new_thread"]
    name = next(each for each in names if hasattr(threading, each))
    begin = getattr(threading, name)
    begun = threading.Event()

    def begin_and_raise(*args: Any, **kwargs: Any) -> None:
        begin(*args, **kwargs)
        assert begun.wait(30)
        raise InterruptedError("from a handler")

    monkeypatch.setattr(threading, name, begin_and_raise)
    thread = SureThread(target=begun.set)
    with pytest.raises(InterruptedError, match="from a handler"):
        thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_pool_at_whose_end_a_handler_raised_goes_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Found by the lines of a first use of `Pool`, whose descriptors stayed.
    class Interrupted(set[Any]):
        interrupts = True

        def discard(self, each: object) -> None:
            if self.interrupts:
                self.interrupts = False
                raise InterruptedError("from a handler")
            super().discard(each)

    pool = ProcessPoolExecutor(1)
    assert pool.submit(abs, -1).result() == 1
    pool.terminate()
    ending = Interrupted()
    monkeypatch.setattr(running, "ending", ending)
    with pytest.raises(InterruptedError):
        pool.shutdown()
    assert len(ending) == 1
    with ProcessPoolExecutor(1) as another:
        assert another.submit(abs, -1).result() == 1
    assert not ending


def is_ours(kind: type) -> bool:
    return kind.__module__.startswith("manyhands")


def test_what_was_interrupted_before_it_was_set_up_goes_without_complaint() -> None:
    # Found in the same way: `Pool.__del__` looked for what the first line of `__init__` sets.
    modules = []
    for found in pkgutil.walk_packages(manyhands.__path__, "manyhands."):
        if not found.name.endswith("__main__"):
            with contextlib.suppress(ModuleNotFoundError):  # pandas, for one
                modules.append(importlib.import_module(found.name))
    kinds = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and is_ours(kind)
    }
    # Of our own: classes of the standard library have theirs.
    deleted: list[Any] = [
        kind
        for kind in kinds
        if any("__del__" in vars(base) for base in kind.__mro__ if is_ours(base))
    ]
    assert manyhands.Pool in deleted
    for kind in deleted:
        kind.__new__(kind).__del__()


def test_a_descriptor_is_closed_once_although_a_handler_raises_before_it_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The second time it may be somebody else's.
    def add_reader(*_: object) -> None:
        raise InterruptedError("from a handler")

    closed = []
    close = os.close

    def note(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    loop = asyncio.new_event_loop()
    try:
        monkeypatch.setattr(loop, "add_reader", add_reader)
        monkeypatch.setattr(os, "close", note)
        with pytest.raises(InterruptedError):
            _Bridge(loop)
        gc.collect()
        assert len(closed) == 1
    finally:
        loop.close()
