"""The end of the parent: by Ctrl-C, by SIGKILL, by an exit without shutdown; and its forks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventually import begun, eventually, is_running, processes_with
from rules import SUPPORT

MARK = "MANYHANDS_TEST_PROGRAM"

# What every program here begins with; its folder is its working directory.
BEGIN = """
import os, sys, time, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
import manyhands as mh
import tasks
here = Path.cwd()
"""


class Program:
    """A Python program in a session of its own, as if it were alone on a terminal."""

    def __init__(self, folder: Path, text: str, *flags: str) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.mark = uuid.uuid4().hex
        file = folder / "program.py"
        file.write_text(BEGIN.format(tests=str(SUPPORT)) + text)
        self.process = subprocess.Popen(
            [sys.executable, *flags, str(file)],
            cwd=folder,
            env={**os.environ, MARK: self.mark, "TMPDIR": str(self.scratch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """Return the program's processes that are alive, itself among them."""
        return processes_with(MARK, self.mark)

    def interrupt(self) -> None:
        """Presses Ctrl-C: the terminal sends SIGINT to all its processes."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code and the output. Nothing of it is left then."""
        out, err = self.process.communicate(timeout=20)
        eventually(lambda: not self.processes(), "all its processes are gone", patience=10)
        assert list(self.scratch.iterdir()) == [], "it left temporary files"
        return self.process.returncode, out, err


@pytest.fixture(autouse=True)
def nothing_in_dev_shm() -> Iterator[None]:
    before = set(os.listdir("/dev/shm"))
    yield
    mine = [name for name in set(os.listdir("/dev/shm")) - before if "manyhands" in name]
    assert not mine


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Program]]:
    """Programs to be killed if the test fails before they end."""
    programs: list[Program] = []
    yield programs
    for program in programs:
        for pid in program.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        program.process.communicate()


# Ctrl-C

WAITS = {
    "a result": """
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(tasks.sleep_for_ever, here, name) for name in "ab"]
    futures[0].result()
""",
    "a result without a with block": """
pool = mh.ProcessPoolExecutor(2)
futures = [pool.submit(tasks.sleep_for_ever, here, name) for name in "ab"]
futures[0].result()
""",
    "tasks that do not listen": """
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(tasks.be_stubborn, here / name) for name in "ab"]
    futures[0].result()
""",
    "the end of the with block": """
with mh.ProcessPoolExecutor(2) as pool:
    for name in "ab":
        pool.submit(tasks.sleep_for_ever, here, name)
""",
    "the end of the program": """
pool = mh.ProcessPoolExecutor(2)
for name in "ab":
    pool.submit(tasks.sleep_for_ever, here, name)
""",
    "a map": """
with mh.ProcessPoolExecutor(2) as pool:
    for result in pool.map(tasks.sleep_for_ever, [here, here], "ab"):
        pass
""",
    "mh.map": """
mh.map(tasks.sleep_for_ever, [here, here], "ab", workers="process", max_workers=2)
""",
    "wait": """
from concurrent.futures import wait
with mh.ProcessPoolExecutor(2) as pool:
    wait([pool.submit(tasks.sleep_for_ever, here, name) for name in "ab"])
""",
    "the program's own work": """
with mh.ProcessPoolExecutor(2) as pool:
    futures = [pool.submit(tasks.sleep_for_ever, here, name) for name in "ab"]
    time.sleep(60)
""",
    "asyncio": """
import asyncio
async def main():
    with mh.ProcessPoolExecutor(2) as pool:
        await asyncio.gather(*(pool.run(tasks.sleep_for_ever, here, name) for name in "ab"))
asyncio.run(main())
""",
}


@pytest.mark.parametrize("what", WAITS)
def test_one_keyboard_interrupt(what: str, tmp_path: Path, started: list[Program]) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    program = Program(tmp_path, WAITS[what])
    started.append(program)
    for name in "ab":
        if what == "tasks that do not listen":
            begun(tmp_path / name)
        else:
            begun(tmp_path, name)
    program.interrupt()
    code, out, err = program.end()
    # What happens while the interpreter ends does not change its exit code; Python decides this.
    assert code == (0 if what == "the end of the program" else -signal.SIGINT), err
    assert out == ""
    # asyncio shows the CancelledError that it makes of the interrupt, too.
    assert err.count("Traceback") == (2 if what == "asyncio" else 1), err
    lines = err.splitlines()
    assert sum(line.startswith("KeyboardInterrupt") for line in lines) == 1, err
    assert lines[-1].startswith("KeyboardInterrupt"), err
    assert len(lines) < 40, "a wall of text"


def test_a_program_that_handles_the_interrupt_goes_on(
    tmp_path: Path, started: list[Program]
) -> None:
    program = Program(
        tmp_path,
        """
with mh.ProcessPoolExecutor(1) as pool:
    future = pool.submit(tasks.hold, here)
    try:
        future.result()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    (here / "go").touch()
    print(future.result() > 0, pool.submit(tasks.square, 7).result())
""",
    )
    started.append(program)
    begun(tmp_path)
    program.interrupt()
    assert program.end() == (0, "interrupted\nTrue 49\n", "")


def test_an_impatient_user(tmp_path: Path, started: list[Program]) -> None:
    program = Program(tmp_path, WAITS["the end of the with block"])
    started.append(program)
    for name in "ab":
        begun(tmp_path, name)
    program.interrupt()
    for _ in range(100):
        if program.process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            program.interrupt()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(0.01)
    code, out, _ = program.end()
    assert code != 0
    assert out == ""


# The parent is gone at once

PARENTS = {
    "running tasks": "pool.submit(tasks.hold, here, 'a'); pool.submit(tasks.hold, here, 'b')",
    "tasks in C": "pool.submit(tasks.compute_in_c, here / 'a'); pool.submit(tasks.hold, here, 'b')",
    "a nested pool": "pool.submit(tasks.nested_hold, here); pool.submit(tasks.hold, here, 'b')",
    "a program that a task runs": """
import subprocess
script = "echo $$ > new && mv new a.pid; exec sleep 300"
pool.submit(subprocess.run, ["sh", "-c", script]); pool.submit(tasks.hold, here, 'b')
""",
    "shared arrays": """
import numpy as np
shared = mh.share(np.zeros(5_000_000))
pool.submit(tasks.hold, here, 'a'); pool.submit(tasks.hold, here, 'b')
held = [pool.submit(tasks.identity, np.ones(100_000)) for _ in range(20)]
""",
}
FIRST = {"tasks in C": "a/task", "a nested pool": "inner"}


@pytest.mark.once("an interpreter that is gone at once has no say; Rust tidies up after it")
@pytest.mark.parametrize("what", PARENTS)
@pytest.mark.parametrize("how", ["SIGKILL", "os._exit"])
def test_the_parent_dies(what: str, how: str, tmp_path: Path, started: list[Program]) -> None:
    (tmp_path / "a").mkdir()
    die = "time.sleep(60)" if how == "SIGKILL" else "os._exit(9)"
    text = f"""
pool = mh.ProcessPoolExecutor(2)
{PARENTS[what]}
while not (here / "die").exists():
    time.sleep(0.002)
{die}
"""
    program = Program(tmp_path, text)
    started.append(program)
    begun(tmp_path, FIRST.get(what, "a"))
    worker = begun(tmp_path, "b")
    assert len(program.processes()) >= 4
    (tmp_path / "die").touch()
    if how == "SIGKILL":
        program.process.kill()
    code, out, err = program.end()
    assert not is_running(worker)
    assert code == (-signal.SIGKILL if how == "SIGKILL" else 9)
    assert (out, err) == ("", "")


def test_sigterm_ends_everything(tmp_path: Path, started: list[Program]) -> None:
    program = Program(tmp_path, WAITS["a result"])
    started.append(program)
    for name in "ab":
        begun(tmp_path, name)
    program.process.terminate()
    code, out, err = program.end()
    assert (code, out, err) == (-signal.SIGTERM, "", "")


# Exits without shutdown

EXITS = {
    "the end of the program": ("", 0),
    "sys.exit": ("sys.exit(4)", 4),
    "an exception": ("raise ValueError('of the program')", 1),
    "a pool that was dropped": ("del pool", 0),
    "shutdown without waiting": ("pool.shutdown(wait=False)", 0),
    "a daemon thread that waits": (
        "threading.Thread(target=futures[0].result, daemon=True).start()",
        0,
    ),
}


@pytest.mark.parametrize("what", EXITS)
def test_an_exit_without_shutdown(what: str, tmp_path: Path, started: list[Program]) -> None:
    statement, expected = EXITS[what]
    program = Program(
        tmp_path,
        f"""
pool = mh.ProcessPoolExecutor(2)
file = here / "notes"
futures = [pool.submit(tasks.note, file, str(number)) for number in range(300)]
{statement}
""",
        "-X",
        "dev",
        "-W",
        "error",
    )
    started.append(program)
    code, out, err = program.end()
    assert (code, out) == (expected, ""), err
    if what == "an exception":
        assert err.count("Traceback") == 1
        assert err.endswith("ValueError: of the program\n")
    else:
        assert err == ""
    # As in the standard library, tasks that were submitted are done before the interpreter ends.
    assert sorted(map(int, (tmp_path / "notes").read_text().split())) == list(range(300))


def test_an_idle_pool_does_not_delay_the_exit(tmp_path: Path, started: list[Program]) -> None:
    program = Program(
        tmp_path,
        """
import atexit
pools = [mh.ProcessPoolExecutor(2) for _ in range(3)]
assert [pool.submit(tasks.square, 2).result() for pool in pools] == [4, 4, 4]
pools[0].shutdown()
began = time.monotonic()
atexit.register(lambda: print(time.monotonic() - began))
""",
    )
    started.append(program)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert float(out) < 5


def test_submitting_while_the_interpreter_ends(tmp_path: Path, started: list[Program]) -> None:
    program = Program(
        tmp_path,
        """
import atexit
def late():
    for used in (pool, mh.ProcessPoolExecutor(1)):
        try:
            used.submit(tasks.square, 2)
        except RuntimeError as error:
            print(error)
atexit.register(late)
pool = mh.ProcessPoolExecutor(1)
assert pool.submit(tasks.square, 2).result() == 4
""",
    )
    started.append(program)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out.count("cannot schedule new futures after") == 2


# Forks of the parent

FORK = """
import warnings
warnings.simplefilter("ignore")  # about forking a process that has threads: that is the point
pool = mh.ProcessPoolExecutor(2)
finished = pool.submit(tasks.square, 3)
assert finished.result() == 9
pending = pool.submit(tasks.hold, here)
while not (here / "task.pid").exists():
    time.sleep(0.002)
child = os.fork()
if child == 0:
    assert finished.result() == 9
    try:
        pending.result()
    except mh.ManyhandsError:
        print("child: the parent's task is not ours", flush=True)
    assert pool.submit(tasks.square, 4).result() == 16
    assert list(pool.map(tasks.square, range(100))) == [n * n for n in range(100)]
    with mh.ProcessPoolExecutor(1) as another:
        assert another.submit(tasks.identity, b"x" * 1_000_000).result() == b"x" * 1_000_000
    assert mh.map(tasks.square, range(9), workers="process") == [n * n for n in range(9)]
    print("child: works", flush=True)
    END
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert [pool.submit(tasks.square, n).result() for n in range(50)] == [n * n for n in range(50)]
assert pending.running()
(here / "go").touch()
assert pending.result() > 0
print("parent: works")
"""


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit()", "pool.shutdown(); os._exit(0)"])
def test_a_fork_in_the_parent(end: str, tmp_path: Path, started: list[Program]) -> None:
    program = Program(tmp_path, FORK.replace("END", end))
    started.append(program)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "child: the parent's task is not ours",
        "child: works",
        "parent: works",
    ]


def test_stdlib_processes_that_are_forked(tmp_path: Path, started: list[Program]) -> None:
    program = Program(
        tmp_path,
        """
import multiprocessing, warnings
warnings.simplefilter("ignore")
pool = mh.ProcessPoolExecutor(1)
assert pool.submit(tasks.square, 3).result() == 9
def child():
    assert pool.submit(tasks.square, 4).result() == 16
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 0, process.exitcode
assert pool.submit(tasks.square, 5).result() == 25
print("done")
""",
    )
    started.append(program)
    assert program.end() == (0, "done\n", "")


def test_the_parent_dies_while_a_forked_child_lives(tmp_path: Path, started: list[Program]) -> None:
    program = Program(
        tmp_path,
        """
import warnings
warnings.simplefilter("ignore")
pool = mh.ProcessPoolExecutor(1)
pool.submit(tasks.hold, here)
while not (here / "task.pid").exists():
    time.sleep(0.002)
if os.fork() == 0:
    tasks.announce(here, "child")
    time.sleep(60)
    os._exit(0)
while not (here / "child.pid").exists():
    time.sleep(0.002)
os.kill(os.getpid(), 9)
""",
    )
    started.append(program)
    worker, child = begun(tmp_path), begun(tmp_path, "child")
    eventually(lambda: not is_running(worker), "the worker goes with its parent")
    assert is_running(child)
    os.kill(child, signal.SIGKILL)
    program.end()
