"""Interrupts first uses, once at each of their lines: see test_signals_during_first_use.py.

    python first_uses.py USE MOST PART PARTS

In the place of a signal handler, an exception is raised at each line of ours that the main thread
runs while a process uses us for the first time; at most MOST times, and in one of PARTS parts. What
is run through again and again, as a loop is, counts the first time and the last, on each path to
it. Prints what was not as it should be, and then how many were struck of how many lines.

Each line needs a process of its own that has used nothing yet. Those are forked in the middle of
one first use that goes on to its end, each at its line: so nobody has to get there again. That is
the same as long as the process has but one thread and nothing that a fork divides, which holds for
most of a first use: it imports. The rest is reached from the last place where it holds.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import manyhands as mh

# `os.fork` would do what is done around forks: renew locks, for instance, that an interrupted line
# should have given back. What is done without Python's help only marks what is there already.
fork: Callable[[], int] = ctypes.PyDLL(None).fork
for name in [each for each in sys.modules if each.split(".")[0] in {"ctypes", "_ctypes"}]:
    del sys.modules[name]  # we do some things otherwise in programs that have it

FOLDER = os.path.dirname(mh.__file__)
PATIENCE = 40  # seconds for what happens after an interrupt
SURVEYS = 3
TRIES = 5


class Alarm(Exception):
    """What the signal handler raises."""


def process() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(20) == 1


def thread() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(20) == 1


def pool() -> None:
    with mh.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1


def shared() -> None:
    assert mh.map(abs, [-1, -2], workers="process") == [1, 2]
    mh.shared_pool(workers="process").shutdown()


def objects() -> None:
    queue: mh.Queue[int] = mh.Queue()
    with mh.Lock():
        queue.put(1)
    assert queue.get() == 1


USES = {each.__name__: each for each in (process, thread, pool, shared, objects)}


@dataclass(frozen=True)
class Place:
    """A line of ours, reached on one path, for the `time`-th time on that."""

    path: str
    time: int


def path_to(frame: FrameType | None) -> str:
    """Return where a line of ours is, and what of ours has called it."""
    found = []
    while frame is not None:
        if frame.f_code.co_filename.startswith(FOLDER):
            found.append(f"{frame.f_code.co_filename.removeprefix(FOLDER)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


def follow(use: Callable[[], None], look: Callable[[Place], None]) -> None:
    """Run a use; `look` is told before each line of ours, and may raise in its place."""
    times: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            path = path_to(frame)
            times[path] += 1
            look(Place(path, times[path]))
        return trace

    sys.settrace(trace)
    try:
        use()
    finally:
        sys.settrace(None)


def belongings() -> Counter[str]:
    """Count what the process has, as the kernel sees it."""
    threads = os.listdir("/proc/self/task")
    held = Counter({"threads": len(threads), "descriptors": len(os.listdir("/proc/self/fd"))})
    for each in threads:
        with contextlib.suppress(OSError), open(f"/proc/self/task/{each}/children") as file:
            held["processes"] += len(file.read().split())
    return held


def settled(usual: Counter[str]) -> Counter[str]:
    """Return what the process has once that is no more than usual, or after long enough."""
    end = time.monotonic() + 10
    while True:
        gc.collect()
        held = belongings()
        if held <= usual or time.monotonic() > end:
            return held
        time.sleep(0.002)


def alone(body: Callable[[], Any]) -> Any:
    """Return what `body` says in a child that does nothing else, or how that has ended."""
    heard, told = os.pipe()
    child = fork()
    if child == 0:
        os.close(heard)
        conclude(told, body)
    os.close(told)
    return outcome_of(child, heard)


def conclude(told: int, body: Callable[[], Any]) -> None:
    """End this process with what `body` says."""
    try:
        os.write(told, json.dumps(body()).encode())
    except BaseException as error:
        os.write(told, json.dumps(repr(error)).encode())
    finally:
        os._exit(0)


def outcome_of(child: int, heard: int) -> Any:
    with open(heard) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    # SIGALRM if it hangs.
    return json.loads(text) if text else f"the end with wait status {status}"


@dataclass
class Survey:
    """What can be interrupted, and what a process has that was not.

    Attributes:
        simple: how many lines are run while a fork divides nothing yet.
        places: each path, the first time and the last, with the number of its line.
        usual: what a process has after the use and another one.
    """

    simple: int
    places: dict[Place, int]
    usual: Counter[str]


def survey(use: Callable[[], None]) -> Survey:
    """Look at several first uses: threads do not always run in the same order."""
    surveys = [alone(lambda: look_around(use)) for _ in range(SURVEYS)]
    simple = min(each[0] for each in surveys)
    places = {Place(path, nth): line for _, found, _ in surveys for path, nth, line in found}
    usual = Counter[str]()
    for _, _, held in surveys:
        usual |= Counter(held)
    return Survey(simple, places, usual)


def look_around(use: Callable[[], None]) -> tuple[int, list[tuple[str, int, int]], Counter[str]]:
    before = belongings()
    simple, line = 0, 0
    first: dict[Place, int] = {}
    last: dict[str, tuple[Place, int]] = {}

    def look(place: Place) -> None:
        nonlocal simple, line
        if simple == line and belongings() == before:
            simple += 1
        line += 1
        if place.time == 1:
            first[place] = line
        last[place.path] = (place, line)

    follow(use, look)
    use()
    places = first | dict(last.values())
    # What may stay is what is read once and kept.
    held = settled(before + Counter(descriptors=1000))
    return simple, [(each.path, each.time, at) for each, at in places.items()], held


class Walk:
    """One first use, in whose course processes are forked that are interrupted.

    Args:
        use: what is used.
        simple: up to which line a fork divides nothing.
        usual: what a process has that was not interrupted.
        wanted: where to interrupt.
    """

    def __init__(
        self, use: Callable[[], None], simple: int, usual: Counter[str], wanted: list[Place]
    ) -> None:
        self._use = use
        self._simple = simple
        self._usual = usual
        self._wanted = set(wanted)
        self._line = 0
        self._told = -1
        self._target: Place | None = None
        self.struck: set[Place] = set()

    def go(self) -> None:
        """Walk to the last line where forks divide nothing; in a child, never return."""
        try:
            follow(self._use, self._look)
        except Alarm:
            pass
        except BaseException as error:
            if self._told < 0:
                raise
            self._conclude(repr(error))
        if self._told >= 0:
            self._conclude("")

    def _conclude(self, error: str) -> None:
        def body() -> list[Any]:
            if error:
                return [self._target is None, error]
            self._use()
            faulthandler.cancel_dump_traceback_later()
            return [self._target is None, settled(self._usual)]

        conclude(self._told, body)

    def _look(self, place: Place) -> None:
        self._line += 1
        if self._told >= 0:
            self._strike(place)
        elif self._line <= self._simple:
            if place in self._wanted:
                self._interrupt(place, place)
            if self._line == self._simple:
                self._interrupt_later(place)

    def _interrupt_later(self, here: Place) -> None:
        """Interrupt at each place that is still to come."""
        for target in sorted(self._wanted - self.struck, key=lambda each: each.path):
            # How threads run may be different each time.
            tries = 0
            while self._told < 0 and target not in self.struck and tries < TRIES:
                self._interrupt(target, here)
                tries += 1

    def _strike(self, place: Place) -> None:
        """Raise if this is the place where to interrupt."""
        if place == self._target:
            self._target = None
            sys.settrace(None)
            raise Alarm

    def _interrupt(self, target: Place, here: Place) -> None:
        """Fork a child that is interrupted at `target`, and see what comes of it."""
        heard, told = os.pipe()
        child = fork()
        if child == 0:
            os.close(heard)
            self._told, self._target = told, target
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            faulthandler.dump_traceback_later(PATIENCE - 5)
            self._strike(here)
            return
        os.close(told)
        outcome = outcome_of(child, heard)
        if isinstance(outcome, str):
            self.struck.add(target)
            found = outcome
        else:
            struck, held = outcome
            if struck:
                self.struck.add(target)
            found = held if isinstance(held, str) else str(dict(Counter(held) - self._usual) or "")
        if found:
            where = f"{target.path}, time {target.time}"
            print(f"an exception at {where}: {found} more than usual", flush=True)


def report_but_alarms(unraisable: sys.UnraisableHookArgs) -> None:
    """Say what could not be raised, unless it is what we have raised in a finalizer.

    Python prints what a signal handler raises there, since it has nobody to raise it to.
    """
    if unraisable.exc_type is not Alarm:
        sys.__unraisablehook__(unraisable)


def main(name: str, most: str, part: str, parts: str) -> None:
    sys.unraisablehook = report_but_alarms
    use = USES[name]
    there = survey(use)
    every = sorted(there.places, key=lambda place: (there.places[place], place.path))
    few = min(len(every), int(most))
    chosen = [every[(len(every) - 1) * each // max(1, few - 1)] for each in range(few)]
    walk = Walk(use, there.simple, there.usual, chosen[int(part) :: int(parts)])
    walk.go()
    wanted = len(chosen[int(part) :: int(parts)])
    print(f"struck {len(walk.struck)} of {wanted} lines")


if __name__ == "__main__":
    main(*sys.argv[1:])
