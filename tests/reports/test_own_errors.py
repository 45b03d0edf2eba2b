"""A task's own error arrives, whatever is missing on the way.

Found by use, with all descriptors taken or memory full: what tells of a failure is imported when
the first one comes, so that "Too many open files" took the place of the task's own error for good.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import manyhands as mh

BEGIN = """
import logging, os, resource, sys, time
import manyhands as mh

sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL)
hog = []

def take_all():
    try:
        while True:
            hog.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass

def give_back():
    while hog:
        os.close(hog.pop())

def fail():
    raise ValueError("its own")

def take_all_and_fail():
    take_all()
    raise ValueError("its own")

def die():
    os._exit(3)

def begun(path):
    open(path, "w").close()
    time.sleep(60)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.002)
"""

PARENT = {
    "an exception": """
futures = [pool.submit(fail) for _ in range(3)]
mh.wait(waiting)
take_all()
go.set()
errors = [each.exception(30) for each in futures]
give_back()
assert all(type(each) is ValueError and each.args == ("its own",) for each in errors), errors
assert "in fail" in str(errors[0].__cause__)
""",
    "an exception of a map": """
take_all()
go.set()
results = pool.map(fail_with, [1, 2])
try:
    next(results)
except BaseException as raised:
    error = raised
give_back()
assert type(error) is ValueError, repr(error)
""",
    "an exception that has to be imported": """
future = pool.submit(__import__("raises_another").fail)
del sys.modules["raises_another"], sys.modules["another"]
take_all()
go.set()
error = future.exception(30)
give_back()
assert type(error).__name__ == "AnotherError", repr(error)
""",
    "a death": """
future = pool.submit(die)
take_all()
go.set()
error = future.exception(30)
give_back()
assert isinstance(error, mh.WorkerDied), repr(error)
""",
    "a timeout": """
future = pool.options(timeout=0.2).submit(time.sleep, 60)
take_all()
go.set()
error = future.exception(30)
give_back()
assert type(error) is mh.TaskTimeout, repr(error)
""",
    "a result that has to be imported": """
future = pool.submit(__import__("raises_another").make)
del sys.modules["raises_another"], sys.modules["another"]
take_all()
go.set()
result = future.result(30)
give_back()
assert type(result).__name__ == "AnotherError", repr(result)
""",
}


def run(program: str, folder: Path) -> None:
    (folder / "another.py").write_text("class AnotherError(Exception): pass\n")
    (folder / "raises_another.py").write_text(
        "def fail():\n    import another\n    raise another.AnotherError\n"
        "def make():\n    import another\n    return another.AnotherError()\n"
        "import another\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program, str(folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


@pytest.mark.parametrize("what", PARENT)
def test_a_parent_without_descriptors(what: str, tmp_path: Path) -> None:
    program = f"""
def fail_with(item):
    raise ValueError(item)

pool = mh.ProcessPoolExecutor(1)
go = mh.Event()
pool.submit(abs, -1).result()
waiting = []
pool.submit(go.wait)
{PARENT[what]}
pool.shutdown()
print("ended")
"""
    run(program, tmp_path)


# A process that keeps a descriptor for bad days.
LENDING = """
from manyhands import _native

pool = mh.ProcessPoolExecutor(1)
pool.submit(abs, -1).result()
"""


def test_somebody_takes_the_room_that_is_lent(tmp_path: Path) -> None:
    """A look of another thread's into /proc, say, while an import is about to open its file."""
    program = f"""{LENDING}
tries = []

def open_a_file(failures):
    tries.append(failures)
    take_all()
    if len(tries) <= failures:
        if failures == 1:
            os.close(hog.pop())  # there is room again, but this call has met none
        raise OSError(24, "Too many open files")
    give_back()
    os.close(os.open("/dev/null", os.O_RDONLY))
    return "opened"

for failures in 3, 1:
    take_all()
    tries.clear()
    assert _native.lend_descriptor(open_a_file, failures) == "opened"
    assert len(tries) == failures + 1, tries
try:
    _native.lend_descriptor(int, "x")
except ValueError:
    print("ended")
"""
    run(program, tmp_path)


def test_a_lent_descriptor_that_did_not_come_back_comes_back_later(tmp_path: Path) -> None:
    program = f"""{LENDING}
take_all()
_native.lend_descriptor(take_all)
assert len(hog) > 1
os.close(hog.pop())
_native.lend_descriptor(int)  # now it comes back
take_all()
os.close(_native.lend_descriptor(os.open, "/dev/null", os.O_RDONLY))
print("ended")
"""
    run(program, tmp_path)


def test_a_worker_without_descriptors(tmp_path: Path) -> None:
    program = """
with mh.ProcessPoolExecutor(1) as pool:
    error = pool.submit(take_all_and_fail).exception(30)
    assert type(error) is ValueError, repr(error)
    assert "in take_all_and_fail" in str(error.__cause__), error.__cause__
print("ended")
"""
    run(program, tmp_path)


def test_an_initializer_that_takes_all_descriptors(tmp_path: Path) -> None:
    program = """
pool = mh.ProcessPoolExecutor(1, initializer=take_all_and_fail)
error = pool.submit(abs, -1).exception(30)
assert "ValueError: its own" in str(error), repr(error)
pool.shutdown()
print("ended")
"""
    run(program, tmp_path)


def test_an_error_for_which_there_is_no_shared_memory(tmp_path: Path) -> None:
    program = """
os.environ["MANYHANDS_SHARED_MEMORY"] = str(16 << 20)

def fail_without_memory(text, shown):
    raise ValueError(text * 30_000_000) from KeyError(shown * 30_000_000)

with mh.ProcessPoolExecutor(1) as pool:
    error = pool.submit(fail_without_memory, "", "!").exception(30)
    assert type(error) is ValueError and error.args == ("",), repr(error)[:1000]
    assert "no traceback: MemoryError" in str(error.__cause__), error.__cause__
    error = pool.submit(fail_without_memory, "!", "").exception(30)
    assert "ValueError: !!!" in str(error), repr(error)[:1000]
    assert isinstance(error, MemoryError)
print("ended")
"""
    run(program, tmp_path)


def fail_and_log() -> None:
    try:
        raise KeyError("inner")
    except KeyError:
        logging.getLogger("of the task").exception("it has failed", extra={"odd": lambda: 0})


def test_a_logged_exception_arrives_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(fail_and_log).result()
    (record,) = [each for each in caplog.records if each.name == "of the task"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)
    text = logging.Formatter().format(record)
    assert text.startswith("it has failed\nTraceback (most recent call last):\n")
    assert "in fail_and_log" in text
    assert text.endswith("KeyError: 'inner'")
