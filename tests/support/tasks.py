"""What the workers of the tests run. It imports little, because every worker imports it.

Tasks and tests speak through files in a folder: a task that has begun leaves ``<name>.pid`` there,
and one that waits goes on when the file ``go`` appears.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import ctypes
import itertools
import logging
import operator
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import manyhands as mh

PAUSE_S = 0.002  # between two looks at a file
HOLD_S = 100  # the longest that a task waits for a test, which has less time than that itself

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("COLOUR", default="none")

state: dict[str, Any] = {}


def square(number: int) -> int:
    return number * number


def identity(value: Any) -> Any:
    return value


def everything(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def pid() -> int:
    return os.getpid()


def fail(error: BaseException) -> None:
    raise error


def announce(folder: Path, name: str) -> int:
    """Leaves the process id in ``<name>.pid``; the file appears complete."""
    number = os.getpid()
    draft = folder / f"{name}.{number}.{threading.get_ident()}.draft"
    draft.write_text(str(number))
    draft.rename(folder / f"{name}.pid")
    return number


def hold(folder: Path, name: str = "task") -> int:
    """Announces itself and waits for the file ``go``; returns the process id.

    Fails when nobody lets it go: a test that failed must not hang those that use the same pool.
    """
    number = announce(folder, name)
    deadline = time.monotonic() + HOLD_S
    while not (folder / "go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name!r} was never let go")
        time.sleep(PAUSE_S)
    return number


def count_up(folder: Path, name: str) -> int:
    """How often this has been called with these arguments, in whatever process: 1, 2, …"""
    number = 1
    while True:
        try:
            os.close(os.open(folder / f"{name}-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            number += 1
        else:
            return number


def fail_at_first(folder: Path, times: int, error: BaseException) -> int:
    """Raise so many times; then return how often it was called."""
    called = count_up(folder, "call")
    if called <= times:
        raise error
    return called


def die(how: str) -> None:
    """End this process: ``SIG…``, ``exit <code>``, ``segfault`` or ``abort``."""
    if how.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[how])
        while True:  # another thread may be the one that gets it
            time.sleep(1)
    if how.startswith("exit "):
        os._exit(int(how.removeprefix("exit ")))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if how == "segfault":
        ctypes.string_at(0)
    os.abort()


def announce_and_die(folder: Path, how: str) -> None:
    announce(folder, "dying")
    die(how)


def die_at_first(folder: Path, times: int, how: str) -> int:
    """Dies so many times; then returns how often it was called."""
    called = count_up(folder, "call")
    if called <= times:
        die(how)
    return called


def die_if(number: int, unlucky: int) -> int:
    if number == unlucky:
        die("SIGKILL")
    return number


def note(file: Path, text: str) -> str:
    """Append a line to a file, in one piece."""
    with file.open("a") as stream:
        stream.write(f"{text}\n")
    return text


def set_state(key: str, value: Any) -> None:
    state[key] = value


def get_state(key: str) -> Any:
    return state.get(key)


def count_initialization(folder: Path, key: str, value: Any) -> None:
    set_state(key, value)
    announce(folder, f"initialized-{os.getpid()}")


def allocate(size: int) -> int:
    """Keep so many bytes of touched memory for good; return the process id."""
    state.setdefault("kept", []).append(b"\1" * size)
    return os.getpid()


def colour() -> str:
    return COLOUR.get()


def paint(value: str) -> str:
    COLOUR.set(value)
    return COLOUR.get()


def environment(name: str) -> str | None:
    return os.environ.get(name)


def log(name: str, level: int, text: str, *args: object) -> None:
    logging.getLogger(name).log(level, text, *args)


def warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)


def say(text: str, stream: str = "stdout") -> int:
    print(text, file=getattr(sys, stream))
    return os.getpid()


def stammer(word: str, times: int) -> None:
    """Print lines in pieces, so that a careless reader would mix them with other workers'."""
    for number in range(times):
        for piece in (word, "-", word, f" {number}"):
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")


def burn(seconds: float) -> float:
    """Use so much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return time.process_time()


def sleep_for_ever(folder: Path, name: str = "task") -> None:
    """Sleeps until it is told to stop; tells so in ``<name>-stopped.pid``."""
    try:
        # Whoever waits for this may tell it to stop as soon as it has been announced.
        announce(folder, name)
        while True:
            time.sleep(10)
    except mh.TaskCancelled:
        announce(folder, f"{name}-stopped")
        raise


def sleep_at_first(folder: Path, times: int) -> int:
    called = count_up(folder, "call")
    while called <= times:
        time.sleep(10)
    return called


def be_stubborn(folder: Path) -> None:
    """Take no notice of being told to stop, from its announcement on."""
    while True:
        with contextlib.suppress(BaseException):
            announce(folder, "task")
            while True:
                time.sleep(10)


def start_and_be_stubborn(folder: Path) -> None:
    """Have one program at work, and one in a session of its own, when told to stop; ignore that."""
    for name, apart in (("child", False), ("daemon", True)):
        child = subprocess.Popen(["sleep", "300"], start_new_session=apart)
        (folder / f"{name}.pid").write_text(str(child.pid))
    be_stubborn(folder)


def block_signals(folder: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    announce(folder, "task")
    while True:
        time.sleep(10)


def compute_in_c(folder: Path) -> int:
    """Stays in one C function that looks at no signals, also if it is told to stop before."""
    while True:
        with contextlib.suppress(BaseException):
            announce(folder, "task")
            return sum(range(10**13))


def wait_without_a_look(folder: Path) -> None:
    """Wait in a system call after C functions that take longer than a signal, with no Python step.

    So a signal comes after Python has looked for signals, and before the system call.
    """
    announce(folder, "task")
    try:
        calls: list[tuple[Any, ...]] = [(sum, range(10**7)), (time.sleep, 60)]
        collections.deque(itertools.starmap(operator.call, calls), 0)
    finally:
        announce(folder, "task-stopped")


def wait_in_a_destructor(folder: Path) -> None:
    """Be in a destructor, which lets no exception out, at first; then wait."""

    class Slow:
        def __del__(self) -> None:
            announce(folder, "task")
            time.sleep(60)

    try:
        Slow()
        time.sleep(60)
    finally:
        announce(folder, "task-stopped")


def square_slowly(number: int, seconds: float) -> int:
    burn(seconds)
    return number * number


def double_slowly(array: Any, seconds: float) -> Any:
    burn(seconds)
    return array * 2


def nap(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


def nested(numbers: list[int]) -> list[int]:
    """Run a pool of its own within the task."""
    with mh.ProcessPoolExecutor(max_workers=2) as inner:
        return list(inner.map(square, numbers))


def nested_pids() -> tuple[int, int]:
    with mh.ProcessPoolExecutor(max_workers=1) as inner:
        return os.getpid(), inner.submit(pid).result()


def nested_hold(folder: Path) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as inner:
        inner.submit(hold, folder, "inner").result()


def fail_into_queue(queue: Any) -> None:
    """Log into a queue of multiprocessing from now on, and fail."""
    import logging.handlers

    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(logging.handlers.QueueHandler(queue))
    logger.propagate = False
    raise ValueError("not today")


def keep_counter(counter: Any) -> None:
    set_state("counter", counter)


def count_one_up() -> int:
    with get_state("counter").get_lock():
        get_state("counter").value += 1
    return int(get_state("counter").value)
