"""A signal handler that runs in the middle of an executor's first use.

Also of the first one of a process, in which modules are imported and shared memory is made.

Reports: python/cpython#121649. The handler found a lock taken by the very code that it interrupted;
one that raised left threads and descriptors behind.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from manyhands._interpreter.sure_thread import SureThread

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


FIRST = """
import faulthandler, gc, json, os, signal, sys, threading, time
import manyhands as mh

FOLDER = os.path.dirname(mh.__file__)
kind, most, part, parts = sys.argv[1], *map(int, sys.argv[2:])

class Alarm(Exception):
    pass

def process():
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(20) == 1

def thread():
    with mh.ThreadPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(20) == 1

def shared():
    assert mh.map(abs, [-1, -2], workers="process") == [1, 2]
    mh.shared_pool(workers="process").shutdown()

def objects():
    queue = mh.Queue()
    with mh.Lock():
        queue.put(1)
    assert queue.get() == 1

use = globals()[kind]

def our_lines(frame):
    # Where a line of ours is, and what of ours has called it.
    found = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(FOLDER):
            found.append(f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)

def use_first(at):
    # Raises in the place of a signal handler, at the `at`-th line of ours. Without one, says which
    # lines there are.
    seen, where = 0, {}
    def trace(frame, event, argument):
        nonlocal seen, where
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            seen += 1
            if at == 0:
                where.setdefault(our_lines(frame), []).append(seen)
            if seen == at:
                sys.settrace(None)
                where = our_lines(frame)
                raise Alarm
        return trace
    sys.settrace(trace)
    try:
        use()
    except Alarm:
        pass
    finally:
        sys.settrace(None)
    return seen, where

def belongings():
    end = time.monotonic() + 10
    while True:
        gc.collect()
        threads = len(os.listdir("/proc/self/task"))
        if threads == 1 or time.monotonic() > end:
            return threads, len(os.listdir("/proc/self/fd"))
        time.sleep(0.005)

def experiment(at):
    # In a child: each needs a process that has used nothing yet.
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(40)
            faulthandler.dump_traceback_later(35)
            seen, where = use_first(at)
            use()
            faulthandler.cancel_dump_traceback_later()
            os.write(told, json.dumps([seen, where, belongings()]).encode())
        except BaseException as error:
            os.write(told, json.dumps([0, where, repr(error)]).encode())
        finally:
            os._exit(0)
    os.close(told)
    with open(heard) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    # SIGALRM if it hangs.
    return json.loads(text) if text else (0, "", f"the end with wait status {status}")

_, lines, usual = experiment(0)
# What is run through again and again, as a loop is, counts the first time and the last.
every = sorted({at for times in lines.values() for at in (times[0], times[-1])})
few = min(len(every), most)
chosen = [every[(len(every) - 1) * each // max(1, few - 1)] for each in range(few)]
for at in chosen[part::parts]:
    _, where, held = experiment(at)
    if isinstance(held, str) or held[0] > usual[0] or held[1] > usual[1]:
        print(f"an exception at line {at}, {where}: {held} instead of {usual}", flush=True)
print("ended")
"""


def interrupt(kind: str, most: int, patience: float, part: int = 0, parts: int = 1) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST, kind, *map(str, (most, part, parts))],
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ended\n", "")


KINDS = ["process", "thread", "shared", "objects"]
ALIKE = "nearly all of its lines are those of a pool of processes"
PARTS = 4  # so that they can be run side by side


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.once(ALIKE) if kind == "shared" else ())
        for kind in KINDS
    ],
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
