"""What holds for every test: nothing is left behind, nothing hangs.

The watchdogs are pytest-timeout and faulthandler, set in pyproject.toml. This file checks, after
each test, that no process, thread or file descriptor outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.sharedctypes
import os
import re
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from once import ONCE

with contextlib.suppress(ImportError):
    import numpy as np  # noqa: F401 - its threads start now, not in the middle of a test

with contextlib.suppress(ImportError):
    import hypothesis

    # Nobody fails an example for the time it takes, and every run tries the same examples.
    hypothesis.settings.load_profile("ci")

# Every process that is exec'ed from here on carries this mark, however deep and however orphaned.
MARK = "MANYHANDS_TEST_RUN"
os.environ[MARK] = uuid.uuid4().hex

# Ends after the test in its own time: what a pool that was shut down without waiting leaves. So
# often it is looked for, with a pause between: where everything takes longer, this does, too.
LOOKS = 500
PAUSE_S = 0.01
PATIENCE_S = 25.0

# The stdlib keeps these two for the life of the process, and says so.
STDLIB_SERVANTS = (b"multiprocessing.resource_tracker", b"multiprocessing.forkserver")


# A run that takes longer tells where the time went. Seconds.
LONG_S = 60.0


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files of whose tests `not once` in ``-m`` would leave none: reading takes long."""
    if "not once" not in config.option.markexpr or collection_path.stem not in ONCE:
        return None
    return "on_each_python" not in collection_path.read_text() or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on one Python only."""
    for item in items:
        if item.path.stem in ONCE and not item.get_closest_marker("on_each_python"):
            item.add_marker(pytest.mark.once(ONCE[item.path.stem]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says of a long run in which files and folders the time went."""
    files: dict[str, float] = defaultdict(float)
    reports = (each for kind in terminalreporter.stats.values() for each in kind)
    for report in reports:
        if isinstance(report, pytest.TestReport):
            files[report.nodeid.partition("::")[0]] += report.duration
    if sum(files.values()) < LONG_S:
        return
    folders: dict[str, float] = defaultdict(float)
    for name, seconds in files.items():
        folders[str(Path(name).parent)] += seconds
    for title, found in (("folders", folders), ("slowest 20 files", files)):
        terminalreporter.section(f"time by {title}")
        for name, seconds in sorted(found.items(), key=lambda each: -each[1])[:20]:
            terminalreporter.write_line(f"{seconds:7.1f} s  {name}")


@dataclass
class Belongings:
    """What this process holds: processes as pid → (parent, what), threads, descriptors by kind."""

    processes: dict[int, tuple[int, str]] = field(default_factory=dict)
    threads: dict[int, str] = field(default_factory=dict)
    descriptors: Counter[str] = field(default_factory=Counter)


def content_of(path: str) -> bytes:
    """Return a file of /proc, or nothing if its owner is gone."""
    try:
        file = os.open(
            path, os.O_RDONLY
        )  # half a dozen for each process, before and after each test
    except OSError:
        return b""
    try:
        return b"".join(iter(functools.partial(os.read, file, 65536), b""))
    except OSError:
        return b""
    finally:
        os.close(file)


def text_of(path: str) -> str:
    """Return a file of /proc as text, or nothing if its owner is gone."""
    return content_of(path).decode(errors="replace")


def start_of(fields: list[str]) -> int:
    """Return when a process began, from what follows its name in /proc/<pid>/stat."""
    return int(fields[19])


BEGAN = start_of(text_of("/proc/self/stat").rpartition(")")[2].split())


def marked_processes() -> dict[int, tuple[int, str]]:
    """Return the processes that started from this one, and its direct children even if dead."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found: dict[int, tuple[int, str]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        status = text_of(f"/proc/{pid}/stat")
        fields = status.rpartition(")")[2].split()
        if not status or int(pid) == os.getpid() or start_of(fields) < BEGAN:
            continue
        state, parent = fields[:2]
        command = content_of(f"/proc/{pid}/cmdline")
        if any(servant in command for servant in STDLIB_SERVANTS):
            continue
        if int(parent) == os.getpid() or mark in content_of(f"/proc/{pid}/environ"):
            what = command.replace(b"\0", b" ").decode(errors="replace").strip()[:120]
            what = what or status.split("(", 1)[1].rpartition(")")[0]
            found[int(pid)] = (int(parent), f"{what}{' (zombie)' if state == 'Z' else ''}")
    return found


def belongings() -> Belongings:
    """Look at what this process holds now."""
    threads = {
        int(tid): text_of(f"/proc/self/task/{tid}/comm").strip()
        for tid in os.listdir("/proc/self/task")
    }
    for thread in threading.enumerate():
        if thread.native_id in threads:
            threads[thread.native_id] = thread.name
    descriptors: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            link = os.readlink(f"/proc/self/fd/{number}")
            descriptors[re.sub(r"\[\d+\]|\d+", "", link)] += 1
    return Belongings(marked_processes(), threads, descriptors)


def left_behind(before: Belongings, now: Belongings, lent: bool) -> list[str]:
    """Says what is there now and was not before.

    `lent` means that a pool of a wider fixture is in use; it may start threads and open files. What
    a wider fixture has started may replace its processes, as long as they remain its own.
    """
    old = {*before.processes, *before.threads} - {os.getpid()}

    def is_of_the_old(pid: int) -> bool:
        return pid in old or (pid in now.processes and is_of_the_old(now.processes[pid][0]))

    found = [
        f"process {pid} of parent {parent}: {what}"
        for pid, (parent, what) in now.processes.items()
        if not is_of_the_old(pid)
    ]
    if not lent:
        more = now.descriptors - before.descriptors
        found += [f"{count} more open: {kind}" for kind, count in more.items()]
        new = {tid: name for tid, name in now.threads.items() if tid not in before.threads}
        found += [f"thread {tid}: {name}" for tid, name in new.items()]
    return found


# Wider fixtures that start and open nothing here once they are made.
STEADY = {"warm_up", "connected_once", "installed_rabbitmq", "run_broker", "broker", "amqp_url"}


def is_lent_a_pool(request: pytest.FixtureRequest) -> bool:
    """Tells whether the test uses a fixture of ours that lives longer than the test."""
    definitions = request.node._fixtureinfo.name2fixturedefs
    return any(
        each[-1].scope != "function" and each[-1].baseid.startswith("tests") and name not in STEADY
        for name, each in definitions.items()
    )


async def woken_once() -> None:
    """Have this process send a wake-up, for which it keeps a socket."""
    import manyhands

    event = manyhands.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await event.async_wait(5)


@pytest.fixture(scope="session", autouse=True)
def warm_up() -> None:
    """Has everything made that a process makes once and keeps: shared memory, imported modules."""
    for name in ("ThreadPoolExecutor", "ProcessPoolExecutor"):
        # What is missing or broken its own tests will say; others, as test_tidy, do not need it.
        with contextlib.suppress(Exception):
            import manyhands

            with getattr(manyhands, name)(max_workers=1) as executor:
                executor.options(timeout=30).submit(int, "3").result(timeout=30)
    with contextlib.suppress(Exception):
        asyncio.run(woken_once())
    # The stdlib's servants, and the pipes to them.
    multiprocessing.resource_tracker.ensure_running()
    multiprocessing.forkserver.ensure_running()
    multiprocessing.sharedctypes.RawValue("b")  # its heap


def end_shared_pools() -> None:
    """End the executors that the package keeps for later, if a test has started any."""
    for name, attribute in (("manyhands._pool.shared", "_pools"), ("manyhands.joblib", "_kept")):
        if name in sys.modules:
            kept = getattr(sys.modules[name], attribute)
            while kept:
                last = kept.popitem() if isinstance(kept, dict) else kept.pop()
                last[1].shutdown(cancel_futures=True)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest, warm_up: None) -> Iterator[None]:
    """Fails a test after which processes, zombies, threads or open files remain."""
    lent = is_lent_a_pool(request)
    before = belongings()
    yield
    # An executor that was shut down keeps its event descriptors while somebody refers to it; here
    # that is pytest, with the values of fixtures that have ended.
    request.node.funcargs.clear()
    end_shared_pools()
    # Collecting takes its time in a process that has run thousands of tests.
    deadline = time.monotonic() + PATIENCE_S
    for look in range(LOOKS):
        if not (found := left_behind(before, belongings(), lent)):
            return
        if look > 0:  # mostly, some thread was about to end
            gc.collect()  # an executor in a reference cycle ends when it is collected
        if time.monotonic() > deadline:
            break
        time.sleep(PAUSE_S)
    pytest.fail("left behind:\n  " + "\n  ".join(found), pytrace=False)
