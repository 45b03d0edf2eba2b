"""`manyhands top`: what it finds, how it shows it, and that nothing it looks at can hurt it."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Self
from uuid import uuid4

import pytest

import manyhands as mh
from eventually import eventually, is_running
from rules import ROOT
from terminal import COMMAND, Terminal

DOCUMENTATION = [ROOT / "docs" / "command" / name for name in ("top.md", "metrics.md")]


def top(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, "top", *words], capture_output=True, text=True, **settings)


def seen() -> dict[str, Any]:
    done = top("--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def named(name: str, section: str = "objects") -> dict[str, Any]:
    """Return what is shown of the thing with this name."""
    (found,) = [each for each in seen()[section] if each["name"] == name]
    return dict(found)


class Program:
    """Another program: it runs `code`, says what it prints, and ends when it is left."""

    def __init__(self, code: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"import manyhands as mh, os, sys, threading\n{code}", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        # What it has forked may keep the other ends open.
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def hears(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)


@pytest.fixture
def only_cleaner() -> Iterator[None]:
    """Keep others who run these tests from cleaning up what should be found."""
    with open(__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


only_one_cleans = pytest.mark.usefixtures("only_cleaner")


@pytest.fixture
def name() -> str:
    return f"top {uuid4().hex[:8]}"


def waiting_for(name: str, section: str = "objects") -> list[dict[str, Any]]:
    """Return the waiters for the thing with this name, as soon as any is listed."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = named(name, section)["waiters"]
        return bool(found)

    eventually(look, f"somebody waits for {name}")
    return found


# -- what it finds ----------------------------------------------------------------------------


def test_a_lock_its_owner_and_who_waits(name: str) -> None:
    lock = mh.Lock(name=name)
    assert named(name)["state"] == "free"
    acquire = f"mh.Lock(name={name!r}).acquire()"
    with lock, Program(f"print(threading.get_native_id(), flush=True); {acquire}") as other:
        thread = int(other.says())
        (waiter,) = waiting_for(name)
        found = named(name)
    assert (found["kind"], found["state"]) == ("Lock", "held")
    (holder,) = found["holders"]
    assert (holder["party"]["pid"], holder["count"]) == (os.getpid(), 1)
    assert holder["party"]["thread"] == threading.get_native_id()
    assert not holder["party"]["dead"]
    assert waiter["party"] == {"pid": other.pid, "process": "-c", "thread": thread, "dead": False}
    assert (waiter["purpose"], waiter["asyncio"]) == ("acquire", False)
    assert 0 < waiter["seconds"] < 60
    assert {user["pid"] for user in found["users"]} == {os.getpid(), other.pid}


def test_workers_are_called_after_their_program(name: str) -> None:
    code = """
    lock = mh.Lock(name=sys.argv[1])

    def nest():
        with lock, mh.ProcessPoolExecutor(1) as inner:
            inner.submit(lock.acquire).result()

    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(nest).result()
    """
    with Program(dedent(code), name):
        eventually(lambda: any(each["name"] == name for each in seen()["objects"]), "it is made")
        (waiter,) = waiting_for(name)
        (holder,) = named(name)["holders"]
    assert holder["party"]["process"] == "worker of -c"
    # The other pool is a worker's: still, the program is what its user knows.
    assert waiter["party"]["process"] == "worker of -c"
    assert waiter["party"]["pid"] != holder["party"]["pid"]


def without_names(program: Program) -> dict[str, dict[str, Any]]:
    """Return what is shown, by kind, of what a program shares without a name."""
    found = [
        each
        for each in seen()["objects"]
        if each["name"] is None and program.pid in [user["pid"] for user in each["users"]]
    ]
    kinds = {each["kind"]: each for each in found}
    assert len(kinds) == len(found)
    return kinds


def test_things_without_a_name_are_shown_while_they_are_waited_for() -> None:
    code = """
event, semaphore, condition = mh.Event(), mh.BoundedSemaphore(1), mh.Condition()
print("made", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=wait) for wait in (event.wait, semaphore.acquire)]
semaphore.acquire()
for thread in threads:
    thread.start()
print(*[thread.native_id for thread in threads], flush=True)
sys.stdin.readline()
event.set()
semaphore.release()
for thread in threads:
    thread.join()
semaphore.release()
print("done", flush=True)
sys.stdin.readline()
"""
    with Program(code) as program:
        assert program.says() == "made"
        assert without_names(program) == {}
        program.hears("go on")
        threads = [int(number) for number in program.says().split()]
        eventually(
            lambda: (
                [bool(each["waiters"]) for each in without_names(program).values()] == [True] * 2
            ),
            "both are waited for",
        )
        found = without_names(program)
        program.hears("go on")
        assert program.says() == "done"
        assert without_names(program) == {}
    kinds = ("Event", "BoundedSemaphore")
    waiting = [waiter["party"]["thread"] for kind in kinds for waiter in found[kind]["waiters"]]
    assert waiting == threads
    assert found["Event"]["holders"] == []
    (holder,) = found["BoundedSemaphore"]["holders"]
    assert (holder["party"]["pid"], holder["count"]) == (program.pid, 1)


def test_things_without_a_name_are_shown_while_they_are_held() -> None:
    # One kind is too large for a place among others.
    code = """
kept = [mh.Lock(), mh.RLock(), mh.Event(), mh.Condition(), mh.Barrier(2), mh.Value("i", 7)]
lock, semaphore, large = mh.RLock(), mh.Semaphore(3), mh.BoundedSemaphore(500_000)
print("made", flush=True)
sys.stdin.readline()
with lock, lock, semaphore, semaphore, large:
    print(threading.get_native_id(), flush=True)
    sys.stdin.readline()
print("done", flush=True)
sys.stdin.readline()
"""
    with Program(code) as program:
        assert program.says() == "made"
        assert without_names(program) == {}
        program.hears("go on")
        thread = int(program.says())
        found = without_names(program)
        program.hears("go on")
        assert program.says() == "done"
        assert without_names(program) == {}
    assert {kind: each["state"] for kind, each in found.items()} == {
        "RLock": "held",
        "Semaphore": "1 of 3 free",
        "BoundedSemaphore": "499999 of 500000 free",
    }
    holders = {kind: each["holders"] for kind, each in found.items()}
    counts = {kind: holder["count"] for kind, (holder,) in holders.items()}
    assert counts == {"RLock": 2, "Semaphore": 2, "BoundedSemaphore": 1}
    assert {holder["party"]["pid"] for (holder,) in holders.values()} == {program.pid}
    assert holders["RLock"][0]["party"]["thread"] == thread
    assert all(each["waiters"] == [] for each in found.values())


def test_states_of_everything_else(name: str) -> None:
    permits = mh.BoundedSemaphore(3, name=f"{name} s")
    event = mh.Event(name=f"{name} e")
    barrier = mh.Barrier(2, name=f"{name} b")
    condition = mh.Condition(name=f"{name} c")
    again = mh.RLock(name=f"{name} r")
    with permits, permits, again, again:
        found = named(f"{name} s")
        assert (found["kind"], found["state"]) == ("BoundedSemaphore", "1 of 3 free")
        assert [(each["party"]["pid"], each["count"]) for each in found["holders"]] == [
            (os.getpid(), 2)
        ]
        assert [each["count"] for each in named(f"{name} r")["holders"]] == [2]
    assert named(f"{name} e")["state"] == "not set"
    event.set()
    assert named(f"{name} e")["state"] == "set"
    assert named(f"{name} c")["state"] == "no waiters"
    arrived = threading.Thread(target=barrier.wait)
    arrived.start()
    eventually(lambda: named(f"{name} b")["state"] == "1 of 2 arrived", "one has arrived")
    barrier.wait()
    arrived.join()
    barrier.abort()
    assert named(f"{name} b")["state"] == "broken"
    del condition


def test_queues(name: str) -> None:
    queue = mh.Queue(maxsize=3, name=name)
    queue.put_many(["a", "b", "c"])
    queue.get()
    found = named(name, "queues")
    counts = {field: found[field] for field in ("size", "maxsize", "puts", "gets", "closed")}
    assert counts == {"size": 2, "maxsize": 3, "puts": 3, "gets": 1, "closed": False}
    assert found["waiters"] == []
    queue.put("d")
    with Program(f"mh.Queue(maxsize=3, name={name!r}).put('e')") as other:
        (waiter,) = waiting_for(name, "queues")
        assert (waiter["party"]["pid"], waiter["purpose"]) == (other.pid, "put")
    queue.shutdown()
    assert named(name, "queues")["closed"] is True
    endless = mh.SimpleQueue(name=f"{name} simple")
    assert named(f"{name} simple", "queues")["maxsize"] is None
    del endless


@pytest.mark.on_each_python
def test_coroutines_that_wait(name: str) -> None:
    waits = f"asyncio.run(mh.Queue(name={name!r}).async_get())"
    queue: Any = mh.Queue(name=name)
    with Program(f"import asyncio; {waits}") as other:
        (waiter,) = waiting_for(name, "queues")
        assert (waiter["purpose"], waiter["asyncio"]) == ("get", True)
        assert (waiter["party"]["pid"], waiter["party"]["thread"]) == (other.pid, None)
        queue.put(1)
        eventually(lambda: not is_running(other.pid), "the other one ends")


def test_pools() -> None:
    def mine() -> list[dict[str, Any]]:
        return [each for each in seen()["pools"] if each["parent"]["pid"] == os.getpid()]

    gate = mh.Event()
    before = len(mine())
    with mh.ProcessPoolExecutor(2) as pool:
        mh.wait([pool.submit(abs, -n) for n in range(5)])
        tasks = [pool.submit(gate.wait) for _ in range(6)]
        busy = {"workers": 2, "running": 2, "queued": 4, "ended": 5}

        def is_busy() -> bool:
            return any({key: each[key] for key in busy} == busy for each in mine())

        eventually(is_busy, "two tasks run and four wait")
        (crew,) = [each["crew"] for each in mine() if each["queued"] == 4]
        workers = pool.statistics()["workers"]
        assert {each["pid"] for each in crew} == {each["pid"] for each in workers}
        assert {each["task"] for each in crew} == {each["task"] for each in workers}
        # Both have had their tasks for longer now than when they were looked at before.
        spells = {each["pid"]: each["task_s"] for each in crew}
        assert all(0 <= spells[each["pid"]] <= each["task_s"] < 60 for each in workers)
        gate.set()
        assert all(task.result() for task in tasks)
    assert len(mine()) == before, "a pool that was shut down is not shown"


def test_json_holds_what_the_documentation_says(name: str) -> None:
    lock, queue = mh.Lock(name=f"{name} lock"), mh.Queue(name=f"{name} queue")
    code = f"mh.Lock(name='{name} lock').acquire()"
    with mh.ProcessPoolExecutor(1) as pool, lock, Program(code):
        pool.submit(abs, -1).result()
        waiting_for(lock.name or "")
        found = seen()
    pages = "".join(page.read_text() for page in DOCUMENTATION)
    documented = set(re.findall(r"`(?:(?:\w+)\[\]\.)?(\w+)`", pages))

    def fields(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from value
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                yield from fields(each)

    assert set(fields(found)) <= documented
    assert set(found) == {"pools", "servers", "queues", "objects", "unreadable"}
    label = {"kind", "name", "place", "users"}
    shown = next(each for each in found["objects"] if each["name"] == lock.name)
    assert set(shown) == label | {"state", "holders", "waiters"}
    shown = next(each for each in found["queues"] if each["name"] == queue.name)
    assert set(shown) == label | {"size", "maxsize", "puts", "gets", "closed", "waiters"}
    figures = {"workers", "running", "queued", "ended"}
    mine = next(each for each in found["pools"] if each["parent"]["pid"] == os.getpid())
    assert set(mine) == figures | {"place", "parent", "crew"}
    assert set(mine["crew"][0]) == {"pid", "task", "task_s", "cpu_s", "rss_bytes"}


# -- what it looks at may be broken, and may go away ------------------------------------------


def memory_file(name: str, content: bytes, size: int) -> int:
    """Make an anonymous file that claims to be one of ours; return its descriptor."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    os.pwrite(fd, content, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


@only_one_cleans
def test_foreign_memory_is_named_and_harmless(name: str) -> None:
    descriptors = [
        memory_file(f"manyhands:Lock:{name}", b"", 4096),
        memory_file(f"manyhands:Queue:{name}", b"\xff" * 65536, 4 << 20),
        memory_file("manyhands:SharedHeap", b"\0" * 64, 1 << 21),
        os.memfd_create(f"manyhands:Event:{name}", os.MFD_CLOEXEC),
    ]
    try:
        found = seen()
        unreadable = {each["name"]: each for each in found["unreadable"]}
        for kind in ("Lock", "Queue"):
            assert unreadable[f"{kind}:{name}"]["reason"]
            assert [user["pid"] for user in unreadable[f"{kind}:{name}"]["users"]] == [os.getpid()]
        assert f"Lock:{name}" in top("--once").stdout
        assert top("--clean").returncode == 0
    finally:
        for fd in descriptors:
            os.close(fd)


def own_memory(inode: int) -> Path:
    """Return the file of a memory of ours, by its number."""
    for entry in Path("/proc/self/fd").iterdir():
        if entry.exists() and entry.stat().st_ino == inode:
            return entry
    raise LookupError(inode)


@only_one_cleans
def test_damaged_memory_is_harmless(name: str) -> None:
    """Copies of real segments with random bytes in them; one look at all of them at once."""
    objects: list[Any] = [
        mh.Lock(name=f"{name} l"),
        mh.BoundedSemaphore(3, name=f"{name} s"),
        mh.Barrier(2, name=f"{name} b"),
        mh.Queue(name=f"{name} q"),
        mh.PriorityQueue(name=f"{name} p"),
    ]
    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(abs, -1).result()
        found = seen()
        places = {each["name"]: each["place"] for each in found["objects"] + found["queues"]}
        originals = [own_memory(int(places[each.name].split(":")[0])) for each in objects]
        heaps = [
            entry
            for entry in Path("/proc/self/fd").iterdir()
            if os.path.lexists(entry)
            and os.readlink(entry).startswith("/memfd:manyhands:SharedHeap ")
        ]
        dice = random.Random(7)
        descriptors = []
        for original in [*originals, *heaps]:
            source = os.open(original, os.O_RDONLY)
            size = os.fstat(source).st_size
            content = os.pread(source, 3 << 20, 0)
            os.close(source)
            kind = os.readlink(original).split(":")[2].split(" ")[0]
            for turn in range(8):
                damaged = bytearray(content)
                # The heading stays whole in most, or nothing behind it would be looked at.
                first = 0 if turn == 0 else 64
                used = [at for at in range(first, len(content), 8) if any(content[at : at + 8])]
                for at in dice.sample(used, min(len(used), 1 + turn)):
                    word = dice.choice([0, 1, 2**64 - 1, 2**63, dice.getrandbits(64)])
                    damaged[at : at + 8] = word.to_bytes(8, "little")
                made = memory_file(f"manyhands:{kind}:{name} {turn}", bytes(damaged), size)
                descriptors.append(made)
        try:
            assert seen()["objects"]
            for words in (["--once"], ["--clean"]):
                done = top(*words)
                assert (done.returncode, done.stderr) == (0, "")
        finally:
            for fd in descriptors:
                os.close(fd)


def test_processes_that_come_and_go(name: str) -> None:
    """Looks again and again while objects and processes appear and vanish."""
    ends = threading.Event()
    ours: set[int] = set()

    def come_and_go(number: int) -> None:
        while not ends.is_set():
            with Program(f"lock = mh.Lock(name='{name} {number}'); print(1, flush=True)") as other:
                ours.add(other.pid)
                other.says()
                other.process.kill()

    restless = [threading.Thread(target=come_and_go, args=[number]) for number in range(2)]
    for thread in restless:
        thread.start()
    try:
        for _ in range(6):
            # Others may test with damaged memory at the same time.
            unreadable = seen()["unreadable"]
            users = {user["pid"] for each in unreadable for user in each["users"]}
            assert not users & ours, unreadable
    finally:
        ends.set()
        for thread in restless:
            thread.join()


# Makes a lock, holds it, and copies the memory of it two thousand times.
CROWD = """
import fcntl, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
lock = mh.Lock(name=sys.argv[1])
files = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
links = {int(each[14:]): os.readlink(each) for each in files if os.path.lexists(each)}
(fd,) = [fd for fd, link in links.items() if f":Lock:{lock.name} " in link]
size = os.fstat(fd).st_size
pages = {at: os.pread(fd, 4096, at) for at in range(0, size, 4096)}
pages = {at: page for at, page in pages.items() if any(page)}
for number in range(2000):
    copy = os.memfd_create(f"manyhands:Lock:{lock.name} {number:04}", os.MFD_ALLOW_SEALING)
    os.truncate(copy, size)
    for at, page in pages.items():
        os.pwrite(copy, page, at)
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
with lock:
    print("made", flush=True)
    input()
"""


def test_thousands_of_objects(name: str) -> None:
    """More than a screen holds: cut, with what is waited for first, and the rest counted."""
    with Program(CROWD, name) as crowd:
        assert crowd.says() == "made"
        with Program(f"mh.Lock(name={name!r}).acquire()") as other:
            waiting_for(name)
            # Other programs may be waiting for longer: with so many rows they do not hide ours.
            with Terminal(80, "top", rows=200, NO_COLOR="1") as terminal:
                terminal.read_until(r"and \d,\d\d\d more")
                terminal.press(b"q")
                assert terminal.end() == 0
    lines = screens(terminal)[-1]
    assert len(lines) <= 200
    assert max(map(columns, lines)) <= 80
    first = next(number for number, line in enumerate(lines) if line.startswith(f"  {name} "))
    assert re.match(rf"  {name} +Lock +held +{crowd.pid} -c", lines[first])
    assert re.match(rf"    {other.pid} -c waiting ", lines[first + 1])


def test_no_line_is_wider_than_the_screen(name: str) -> None:
    """With names of all kinds, and a last line that is cut."""
    letters = [
        "注文",
        "👩\u200d👧❤\ufe0f",
        "⌚⚡✅⭐",
        "e\u0301",
        "\u202e\u2067",
        "\t\x1b[9C",
        "שָׁ",
        "…",
    ]
    locks = [mh.Lock(name=name + (text * 50)[:48]) for text in letters]
    damaged = memory_file(f"manyhands:Lock:{name} {'⚡' * 40}", b"", 4096)
    try:
        for width in (40, 80, 120):
            with Terminal(width, "top", rows=60, NO_COLOR="1") as terminal:
                terminal.read_until(r"UNREADABLE[^\n]*\n[^\n]*\n?")
                terminal.press(b"q")
                assert terminal.end() == 0
            lines = [line for screen in screens(terminal) for line in screen]
            assert [line for line in lines if columns(line) > width] == []
            with Terminal(width, "top", "--once", NO_COLOR="1") as terminal:
                assert terminal.end() == 0
            lines = terminal.written.split("\r\n")
            assert [line for line in lines if columns(line) > width] == []
            assert sum(line.lstrip().startswith(name[:8]) for line in lines) >= len(locks)
    finally:
        os.close(damaged)


# -- the screen -------------------------------------------------------------------------------


def screens(terminal: Terminal) -> list[list[str]]:
    """Return the screens that were drawn, one after the other, as lines."""
    # What puts the terminal right in the end stands behind the last line.
    drawn = terminal.written.split("\x1b[?7h")[0].split("\x1b[H")[1:]
    return [re.sub(r"\x1b\[[JK]", "", each).split("\r\n") for each in drawn]


def columns(line: str) -> int:
    """How many columns a terminal needs for a line."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in line)
    return len(line) + wide - sum(unicodedata.combining(letter) > 0 for letter in line)


def left_as_it_was(terminal: Terminal) -> bool:
    written = terminal.written
    return written.count("\x1b[?1049h") == written.count("\x1b[?1049l") == 1 and (
        written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    )


def test_the_screen_follows_what_happens(name: str) -> None:
    lock = mh.Lock(name=name)
    with Terminal(80, "top", "--interval", "0.1", NO_COLOR="1") as terminal:
        terminal.read_until(rf"{name} +Lock +free")
        with lock:
            terminal.read_until(rf"{name} +Lock +held +{os.getpid()} ")
            with Program(f"mh.Lock(name={name!r}).acquire()") as other:
                terminal.read_until(rf"    {other.pid} -c waiting \d\.\d s to acquire")
        terminal.press(b"q")
        assert terminal.end() == 0
        assert terminal.is_as_it_was()
    assert left_as_it_was(terminal)
    first = screens(terminal)[0][0]
    assert re.match(r"manyhands top  \d+ process", first)
    assert first.endswith("q: quit")


def test_a_screen_of_another_size_is_drawn_at_once() -> None:
    # It would look again only after an hour.
    with Terminal(80, "top", "--interval", "3600", NO_COLOR="1") as terminal:
        terminal.read_until("q: quit")
        terminal.resize(120, 40)
        terminal.read_until(r"manyhands top {2}.{98}q: quit")
        terminal.press(b"Q")
        assert terminal.end() == 0
    assert [len(each[0]) for each in screens(terminal)] == [80, 120]


def test_ctrl_c_puts_the_terminal_right() -> None:
    with Terminal(80, "top") as terminal:
        terminal.read_until("q: quit")
        assert not terminal.is_as_it_was()
        terminal.press(b"\x03")
        assert terminal.end() == 128 + signal.SIGINT
        assert terminal.is_as_it_was()
    assert left_as_it_was(terminal)
    assert terminal.written.endswith("manyhands: interrupted\r\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_that_end_it_put_the_terminal_right(number: signal.Signals) -> None:
    with Terminal(80, "top") as terminal:
        terminal.read_until("q: quit")
        terminal.signal(number)
        assert terminal.end() == 128 + number
        assert terminal.is_as_it_was()
    assert left_as_it_was(terminal)


def test_once_in_a_terminal_draws_no_screen(name: str) -> None:
    lock = mh.Lock(name=name)
    with Terminal(80, "top", "--once") as terminal:
        assert terminal.end() == 0
    assert "\x1b[?1049h" not in terminal.written
    assert "\x1b[1mOBJECTS" in terminal.written
    assert name in terminal.written
    del lock


def test_a_pipe_gets_the_table_once_and_plain(name: str) -> None:
    lock = mh.Lock(name=name)
    done = top(env={**os.environ, "TERM": "xterm"})
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(rf"^  {name} +Lock +free$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout
    del lock


@only_one_cleans
@pytest.mark.parametrize("words", [["--once"], ["--once", "--json"], ["--clean"]])
def test_a_reader_that_leaves_is_no_error(words: list[str]) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    with open(writable, "wb") as closed:
        done = subprocess.run(
            [*COMMAND, "top", *words], stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (0, "")


# -- cleaning up ------------------------------------------------------------------------------

# Makes an object, forks a child that never uses it, and says both numbers.
FORGOTTEN = """
thing = {thing}
{use}
child = os.fork()
if child == 0:
    import time
    time.sleep(600)
print(child, flush=True)
input()
"""


@pytest.fixture
def forgotten(name: str) -> Iterator[list[int]]:
    """Children to be killed in the end."""
    children: list[int] = []
    yield children
    for child in children:
        os.kill(child, signal.SIGKILL)
        eventually(lambda child=child: not is_running(child), "the child has ended")  # type: ignore[misc]


def kill_owner(code: str, children: list[int]) -> int:
    """Run the code and kill it; its child lives on. Returns the number of the dead one."""
    with Program(code) as owner:
        children.append(int(owner.says()))
        owner.process.kill()
        owner.process.wait()
        return owner.pid


@only_one_cleans
def test_a_name_is_taken_away_when_asked_for(name: str, forgotten: list[int]) -> None:
    kill_owner(FORGOTTEN.format(thing=f"mh.Event(name={name!r})", use="thing.set()"), forgotten)
    assert named(name)["state"] == "set", "the child has it"
    done = top("--clean", name)
    assert (done.returncode, done.stderr) == (0, "")
    said = [line for line in done.stdout.splitlines() if name in line]
    (child,) = forgotten
    assert said[-1] == f'Event "{name}": name released; still in use by process {child}'
    assert not mh.Event(name=name).is_set(), "this is a new one"
    assert name not in top("--clean").stdout


@only_one_cleans
def test_a_name_that_is_not_there() -> None:
    done = top("--clean", "top of nothing")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == 'no object is named "top of nothing"'


@only_one_cleans
def test_the_dead_are_taken_off_the_list(name: str) -> None:
    event = mh.Event(name=name)
    with Program(f"event = mh.Event(name={name!r}); print(1, flush=True); event.wait()") as other:
        other.says()
        waiting_for(name)
        other.process.kill()
        other.process.wait()
    assert named(name)["waiters"] == []
    said = f'Event "{name}": removed the entries of process {other.pid}, which is dead'
    assert said in top("--clean").stdout.splitlines()
    assert name not in top("--clean").stdout
    del event


@only_one_cleans
def test_what_somebody_uses_stays(name: str) -> None:
    event = mh.Event(name=name)
    event.set()
    assert name not in top("--clean").stdout
    assert mh.Event(name=name).is_set()


@only_one_cleans
def test_permits_of_the_dead_come_back(name: str, forgotten: list[int]) -> None:
    permits = mh.Semaphore(3, name=name)
    thing = f"mh.Semaphore(3, name={name!r})"
    dead = kill_owner(
        FORGOTTEN.format(thing=thing, use="thing.acquire(); thing.acquire()"), forgotten
    )
    (holder,) = named(name)["holders"]
    assert holder == {
        "party": {"pid": dead, "process": "", "thread": None, "dead": True},
        "count": 2,
    }
    said = [line for line in top("--clean").stdout.splitlines() if name in line]
    assert f'Semaphore "{name}": permits of dead processes released: 2' in said
    assert permits.get_value() == 3
    assert (named(name)["state"], named(name)["holders"]) == ("3 of 3 free", [])


@only_one_cleans
def test_a_lock_of_a_dead_owner_is_shown_and_left_to_its_next_owner(name: str) -> None:
    lock = mh.Lock(name=name)
    with Program(f"mh.Lock(name={name!r}).acquire(); print(1, flush=True); input()") as owner:
        owner.says()
        owner.process.kill()
        owner.process.wait()
    top("--clean")
    found = named(name)
    assert found["state"] == "owner died"
    assert [each["party"]["dead"] for each in found["holders"]] == [True]
    with pytest.raises(mh.OwnerDied):
        lock.acquire()
    assert named(name)["state"] == "not recovered"
    lock.release()
    assert named(name)["state"] == "poisoned"
    lock.recover()
    assert named(name)["state"] == "free"


@only_one_cleans
def test_nothing_to_clean_is_said() -> None:
    top("--clean")
    again = top("--clean").stdout
    assert again == "nothing was left behind\n" or ":" in again
