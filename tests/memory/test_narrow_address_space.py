"""Programs that may have few addresses (``ulimit -v``); programs that close all descriptors."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(program: str, *, addresses: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program, with a limit on its addresses in bytes that its workers inherit."""
    limit = ""
    if addresses is not None:
        limit = "import resource as r\n" + f"r.setrlimit(r.RLIMIT_AS, ({addresses}, {addresses}))\n"
    text = limit + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False
    )


EVERYTHING = """
    import math
    import manyhands as mh

    locks = [mh.Lock() for _ in range(100)]
    with locks[99]:
        pass
    event = mh.Event()
    event.set()
    assert event.wait(1)
    queues = [mh.Queue() for _ in range(40)]
    for queue in queues:
        queue.put(b"x" * 100_000)
    assert all(queue.get() == b"x" * 100_000 for queue in queues)
    pairs = [mh.Pipe() for _ in range(20)]
    for one, other in pairs:
        one.send("hello")
        assert other.recv() == "hello"
    assert list(mh.map(math.sqrt, [1, 4, 9], workers="process", max_workers=2)) == [1, 2, 3]
    print("done")
"""


def test_with_four_gigabytes_of_addresses_everything_works() -> None:
    done = run(EVERYTHING, addresses=4 << 30)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.mark.skipif(
    "t" in sys.abiflags, reason="the memory of such Pythons alone needs more addresses"
)
def test_with_few_addresses_primitives_and_queues_work() -> None:
    program = """
        import manyhands as mh

        with mh.Lock():
            queues = [mh.Queue() for _ in range(5)]
        for queue in queues:
            queue.put(list(range(1000)))
            assert queue.get() == list(range(1000))
        print("done")
    """
    done = run(program, addresses=400 << 20)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.mark.parametrize(
    "what", ["mh.Queue(memory=8 << 30)", "mh.SharedArray((1 << 30,))", "mh.Lock()"]
)
def test_who_asks_for_too_many_addresses_is_told_why(what: str) -> None:
    program = f"""
        import os
        os.environ["MANYHANDS_SHARED_MEMORY"] = str(8 << 30)
        import manyhands as mh
        try:
            {what}
        except MemoryError as error:
            print(error)
    """
    done = run(program, addresses=4 << 30)
    assert done.returncode == 0, done.stderr
    assert "ulimit -v" in done.stdout


def test_a_file_that_gets_the_number_of_a_closed_descriptor_is_left_alone(tmp_path: Path) -> None:
    program = f"""
        import os
        import manyhands as mh

        queue, lock = mh.Queue(), mh.Lock()
        queue.put("before")
        numbers = [int(number) for number in os.listdir("/proc/self/fd")]
        for number in numbers:
            if number > 2:
                try:
                    os.close(number)
                except OSError:
                    pass
        files = [open({str(tmp_path)!r} + f"/{{index}}", "wb+", buffering=0) for index in range(8)]
        for file in files:
            file.write(b"A" * (4 << 20))
        assert queue.get() == "before"
        for _ in range(400):
            queue.put(b"x" * 100_000)
        for _ in range(400):
            assert len(queue.get()) == 100_000
        with lock:
            pass
        del queue, lock
        for file in files:
            file.seek(0)
            assert file.read() == b"A" * (4 << 20), "a file was changed"
        print("done")
    """
    done = run(program)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
