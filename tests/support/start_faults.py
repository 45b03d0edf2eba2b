"""Starts pools while one system call fails: a program of the tests, see test_faults_at_start.py.

    python start_faults.py EXPERIMENT ERROR CALL[,CALL ...] EACH MOST

Each of the system calls that the experiment makes fails once with ERROR, or is the moment of a
signal of that name; but at most EACH of those to the same one, and MOST in all. Prints what was not
as it should be, and then how many faults there were.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable

import faults
import manyhands as mh
import manyhands._pool.process
import manyhands._pool.thread

# What the caller of a pool that cannot be started may get: the system's reason in some form.
ANSWERS = (OSError, MemoryError, RuntimeError, ImportError)
PATIENCE = 20.0  # seconds for a task; an experiment without an end takes half as long again


def pool_of_processes(marker: faults.Marker) -> None:
    """Start the zygote and the first worker."""
    marker.begin()
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(PATIENCE) == 1


def replacement(marker: faults.Marker) -> None:
    """Has a worker replaced that has died."""
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(PATIENCE) == 1
        marker.begin()
        error = pool.submit(os._exit, 3).exception(PATIENCE)
        assert isinstance(error, mh.WorkerDied), repr(error)
        assert pool.submit(abs, -1).result(PATIENCE) == 1


def pool_of_threads(marker: faults.Marker) -> None:
    """Start a thread."""
    marker.begin()
    with mh.ThreadPoolExecutor(1) as pool:
        assert pool.submit(abs, -1).result(PATIENCE) == 1


def shared_objects(marker: faults.Marker) -> None:
    """Make the memory that processes share, and what lies in it."""
    marker.begin()
    lock, queue = mh.Lock(), mh.Queue()
    with lock:
        queue.put(1)
    assert queue.get() == 1


EXPERIMENTS = {
    each.__name__: each
    for each in (pool_of_processes, replacement, pool_of_threads, shared_objects)
}


def told(experiment: Callable[[faults.Marker], None], marker: faults.Marker) -> str:
    """Run an experiment, and one after it without faults; say what came of them, as JSON."""
    first = "done"
    try:
        experiment(marker)
    except TimeoutError:
        raise  # it is an OSError, but means that a task hangs
    except ANSWERS as error:
        first = f"{type(error).__name__}: {error}"
        error.__traceback__ = None
    # The fault may have been in the first use of the whole process.
    marker.end()
    experiment(faults.Marker(None))
    gc.collect()
    return json.dumps([first, settled()])


def settled() -> Counter[str]:
    """Return what the process holds, once that does not change any more."""
    end = time.monotonic() + 5
    held = faults.belongings()
    while held["thread"] > 1 and time.monotonic() < end:
        time.sleep(0.005)
        held = faults.belongings()
    return held


def shortcomings(fault: faults.Fault, outcome: faults.Outcome, usual: Counter[str]) -> list[str]:
    """Return what is wrong with how an experiment went."""
    if outcome.status is None:
        return [f"hangs: {outcome.left}"]
    if outcome.killed:
        return [f"left behind: {each}" for each in outcome.left]
    if outcome.status != 0:
        return [f"ended with status {outcome.status}: {outcome.said}"]
    found = [f"left behind: {each}" for each in outcome.left]
    answer, held = json.loads(outcome.said)
    if fault.signal is not None and answer != "done" and not answer.startswith("WorkerDied"):
        found.append(f"what was killed is not replaced: {answer}")
    more = Counter(held) - usual
    del more["/dev/urandom"]  # CPython keeps it open from when getrandom has failed
    if fault.call == "munmap":
        del more["mapped segment"]  # what cannot be unmapped stays
    return found + [f"{count} more {what}" for what, count in more.items()]


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers up to `count`, from its first to its last."""
    few = min(count, most)
    return [1 + (count - 1) * each // max(1, few - 1) for each in range(few)]


def main(name: str, error: str, calls: str, each: str, most: str) -> None:
    experiment = EXPERIMENTS[name]
    if reason := faults.why_not():
        print(f"{reason}\ncannot")
        return
    chosen = [call for call in calls.split(",") if call in faults.NUMBERS]
    # What the processes under test complain of is no concern of this program's output.
    with contextlib.ExitStack() as stack:
        devnull = stack.enter_context(open(os.devnull, "w"))
        os.dup2(devnull.fileno(), 2)
        usual = faults.run(lambda marker: told(experiment, marker), chosen)
        if usual.status != 0:
            print(f"without faults: {usual.said} {usual.left}")
            return
        held = Counter(json.loads(usual.said)[1])
        count = 0
        all_faults = [
            faults.Fault(call, at, error)
            for call in chosen
            for at in spread(usual.counts[call], int(each))
        ]
        for number in spread(len(all_faults), int(most)):
            fault = all_faults[number - 1]
            outcome = faults.run(
                lambda marker: told(experiment, marker), [fault.call], fault, 1.5 * PATIENCE
            )
            for shortcoming in shortcomings(fault, outcome, held):
                print(f"{fault} in {outcome.struck}: {shortcoming}", flush=True)
            count += bool(outcome.struck)
    print(f"{count} faults")


if __name__ == "__main__":
    del manyhands
    main(*sys.argv[1:])
