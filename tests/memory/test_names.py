"""The same object in other processes: by name, pickled, inherited, and how long it lives."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
import tasks
from eventually import eventually, let_go
from holders import START_METHODS, WAYS, hold, running
from manyhands._memory.share import shared_memory

NAMED: dict[str, Callable[..., Any]] = {
    "Lock": mh.Lock,
    "RLock": mh.RLock,
    "Semaphore": mh.Semaphore,
    "BoundedSemaphore": mh.BoundedSemaphore,
    "Event": mh.Event,
    "Condition": lambda name: mh.Condition(name=name),
    "Barrier": lambda name: mh.Barrier(2, name=name),
    "Queue": lambda name: mh.Queue(name=name),
}


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return a name that nobody else uses; nothing of it may be left."""
    name = f"{os.getpid()}/{request.node.name} ä\n(deleted)"
    yield name
    gone(name)


def gone(name: str) -> None:
    """Return when nobody has the segment of this name; `top` has it for a moment when it looks."""
    gc.collect()
    eventually(lambda: not segments(name), "the segment vanishes with its last user")


def segments(name: str) -> list[str]:
    """Return the descriptors, of whatever process, that lead to the segment of this name."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            files = list((process / "fd").iterdir())
        except OSError:
            continue
        for file in files:
            try:
                target = os.readlink(file)
            except OSError:
                continue
            if target.startswith("/memfd:manyhands:") and target.endswith(f":{name} (deleted)"):
                found.append(str(file))
    return found


def child(way: str, fn: Callable[..., object], *args: Any) -> int | None:
    """Run a function in a process started this way; its exit code."""
    context: Any = multiprocessing.get_context(way)
    process = context.Process(target=fn, args=args)
    process.start()
    del args
    process.join(30)
    code: int | None = process.exitcode
    process.close()
    return code


def python(code: str, *args: str) -> str:
    """Run a program that knows nothing of this one; what it prints."""
    command = [sys.executable, "-c", "import sys, manyhands as mh\n" + code, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# By name


@pytest.mark.parametrize("kind", NAMED)
def test_a_name_is_one_object(kind: str, name: str) -> None:
    one, same = NAMED[kind](name=name), NAMED[kind](name=name)
    assert one.name == same.name == name
    assert len({Path(file).stat().st_ino for file in segments(name)}) == 1
    del one, same
    gone(name)


def test_a_program_started_on_its_own_has_the_same_object(name: str) -> None:
    lock = mh.Lock(name=name)
    code = "print(mh.Lock(name=sys.argv[1]).locked())"
    assert python(code, name) == "False"
    with lock:
        assert python(code, name) == "True"


def test_what_a_program_left_set_is_so_as_long_as_somebody_uses_it(name: str) -> None:
    event = mh.Event(name=name)
    python("mh.Event(name=sys.argv[1]).set()", name)
    assert event.is_set()
    del event
    gone(name)
    assert not mh.Event(name=name).is_set()


def test_names_of_other_kinds_and_sizes_are_refused(name: str) -> None:
    kept = mh.Semaphore(3, name=name)
    with pytest.raises(ValueError, match="is of kind Semaphore, not Lock"):
        mh.Lock(name=name)
    with pytest.raises(ValueError, match="was made with value 3, not 4"):
        mh.Semaphore(4, name=name)
    with pytest.raises(ValueError, match="is of kind Semaphore, not BoundedSemaphore"):
        mh.BoundedSemaphore(3, name=name)
    assert kept.get_value() == 3


@pytest.mark.parametrize("bad", ["x" * 201, "a\0b"])
def test_impossible_names_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="name"):
        mh.Lock(name=bad)


def test_the_longest_name() -> None:
    lock = mh.Lock(name="é" * 100)
    assert lock.acquire(False)
    lock.release()


def test_a_name_that_many_threads_ask_for_at_once(name: str) -> None:
    together = threading.Barrier(8)

    def ask() -> Any:
        together.wait()
        return mh.Semaphore(8, name=name)

    with ThreadPoolExecutor(8) as threads:
        ours = [future.result() for future in [threads.submit(ask) for _ in range(8)]]
    for semaphore in ours:
        assert semaphore.acquire(False)
    assert not ours[0].acquire(False)


def pass_through(name: str, folder: Path, number: int) -> None:
    """Be one of many that ask at once; the lock tells whether they got the same."""
    tasks.announce(folder, str(number))
    eventually((folder / "go").exists, "all may begin")
    with mh.Lock(name=name):
        counter = folder / "counter"
        count = int(counter.read_text())
        counter.write_text(str(count + 1))


def test_a_name_that_many_processes_ask_for_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    kept = mh.Event(name=name + " kept")
    context = multiprocessing.get_context("fork")
    # With a user that lasts: a lock that vanishes with its last user is another next time.
    lock = mh.Lock(name=name)
    processes = [
        context.Process(target=pass_through, args=(name, tmp_path, number)) for number in range(8)
    ]
    for process in processes:
        process.start()
    let_go(tmp_path)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
        process.close()
    assert (tmp_path / "counter").read_text() == "8"
    del kept, lock


def die_while_making(name: str) -> None:
    """Be killed in the middle of it: stopped there by a thread that never gets a turn."""
    while True:
        mh.Queue(name=name)


def test_makers_that_are_killed_hinder_nobody(name: str) -> None:
    context = multiprocessing.get_context("fork")
    for delay in range(12):
        process = context.Process(target=die_while_making, args=(name,))
        process.start()
        until = time.monotonic() + 0.002 * delay
        while time.monotonic() < until:
            pass
        process.kill()
        process.join()
        process.close()
        queue = mh.Queue(name=name)
        queue.put(delay)
        assert queue.get(timeout=5) == delay
        del queue


# By pickling


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("named", [True, False])
def test_pickled_it_is_the_same_object(kind: str, named: bool, name: str) -> None:
    one = NAMED[kind](name=name if named else None)
    same = pickle.loads(pickle.dumps(one))
    assert type(same) is type(one)
    assert same.name == one.name
    assert same._address()[2:] == one._address()[2:]


def test_a_stranger_opens_a_pickle_while_somebody_has_it() -> None:
    lock = mh.Lock()
    data = pickle.dumps(lock).hex()
    code = "import pickle; print(pickle.loads(bytes.fromhex(sys.argv[1])).locked())"
    with lock:
        assert python(code, data) == "True"
    assert python(code, data) == "False"


def test_a_pickle_whose_maker_is_gone() -> None:
    code = "import pickle; print(pickle.dumps(mh.Lock()).hex())"
    with pytest.raises(FileNotFoundError, match="keep it until the receiver"):
        pickle.loads(bytes.fromhex(python(code)))


def test_an_address_is_good_for_one_kind_only() -> None:
    # All as large as a lock, or as large as need be.
    lock, rlock, semaphore = mh.Lock(), mh.RLock(), mh.Semaphore(2)
    with pytest.raises(ValueError, match="is of kind Lock, not RLock"):
        mh.RLock(_address=lock._address())
    with pytest.raises(ValueError, match="is of kind RLock, not Lock"):
        mh.Lock(_address=rlock._address())
    with pytest.raises(ValueError, match="is of kind Semaphore, not BoundedSemaphore"):
        mh.BoundedSemaphore(2, _address=semaphore._address())
    assert mh.Lock(_address=lock._address()).acquire(False)
    assert lock.locked()
    lock.release()


def test_a_pickle_of_something_that_was_freed() -> None:
    lock = mh.Lock()
    code = """
import os, pickle, time
event = mh.Event()
data = pickle.dumps(event)
address = event._address()
print(data.hex(), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", "import sys, manyhands as mh\n" + code]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as program:
        assert program.stdin is not None and program.stdout is not None
        data = bytes.fromhex(program.stdout.readline())
        event = pickle.loads(data)
        assert not event.is_set()
        with pytest.raises((TypeError, ValueError)):
            type(lock)(_address=(1, 2, 3))
        pid, fd, inode, reference, _ = event._address()
        with pytest.raises(FileNotFoundError, match="no longer exists"):
            type(event)(_address=(pid, fd, inode, reference ^ (1 << 9), None))
        with pytest.raises(FileNotFoundError):
            type(event)(_address=(pid, fd, inode + 1_000_000, reference, None))
        program.stdin.close()
        program.wait(30)
    event.set()
    assert pickle.loads(data).is_set(), "we have it still"


def sets(event: Any) -> None:
    event.set()


@pytest.mark.parametrize("way", START_METHODS)
def test_what_only_the_child_is_given(way: str) -> None:
    """The parent forgets the arguments as soon as it has started the child."""
    event = mh.Event()
    assert child(way, sets, event) == 0
    assert event.is_set()
    assert child(way, sets, mh.Event()) == 0
    assert child(way, put_one, mh.Queue()) == 0


def put_one(queue: Any) -> None:
    queue.put(1)
    assert queue.get(timeout=5) == 1


def test_what_only_a_task_is_given() -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as pool:
        pool.submit(sets, mh.Event()).result(20)
        futures = [pool.submit(put_one, mh.Queue()) for _ in range(20)]
        for future in futures:
            future.result(20)


def made_in_a_child(folder: Path, name: str, queue: Any) -> None:
    lock = mh.Lock()
    lock.acquire()
    queue.put(lock)
    tasks.hold(folder, name)
    lock.release()


@pytest.mark.parametrize("way", WAYS)
def test_what_a_child_made_comes_back(way: str, tmp_path: Path) -> None:
    queue = mh.SimpleQueue()
    with running(way, tmp_path, "maker", made_in_a_child, queue) as maker:
        lock = queue.get()
        assert not lock.acquire(False)
        let_go(tmp_path)
        maker.ended_well()
    assert lock.acquire(timeout=20)
    lock.release()


# By inheritance


def forked(fn: Callable[[], object]) -> int:
    """Fork, the plain way; the exit status of the child, in which `fn` is called."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            fn()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def take(lock: mh.Lock) -> None:
    assert lock.acquire(timeout=5)
    lock.release()


def test_a_forked_child_has_all_objects_of_its_parent() -> None:
    lock, event, queue = mh.Lock(), mh.Event(), mh.Queue()
    lock.acquire()

    def use() -> None:
        assert not lock.acquire(False)
        event.set()
        queue.put("from the child")

    assert forked(use) == 0
    assert event.is_set()
    assert queue.get(timeout=5) == "from the child"
    lock.release()
    assert forked(lambda: take(lock)) == 0


def test_a_child_that_outlives_its_parent_keeps_what_it_has(tmp_path: Path) -> None:
    code = """
import os
from pathlib import Path
folder = Path(sys.argv[1])
locks = [mh.Lock() for _ in range(100)]
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    pass
for lock in locks:
    assert lock.acquire(timeout=5)
more = [mh.Lock() for _ in range(100)]
for lock in more:
    assert lock.acquire(timeout=5)
assert not any(lock.acquire(False) for lock in locks + more)
(folder / "done").touch()
"""
    python(code, str(tmp_path))
    eventually((tmp_path / "done").exists, "the child uses its locks alone")


def test_a_child_keeps_what_its_parent_lets_go_of() -> None:
    locks = [mh.Lock() for _ in range(50)]
    parent_reads, child_writes = os.pipe()
    child_reads, parent_writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            for lock in locks:
                lock.acquire()
            os.write(child_writes, b"acquired")
            os.read(child_reads, 1)
            # The parent has released these and made others since.
            assert all(lock.locked() for lock in locks)
            for lock in locks:
                lock.release()
            code = 0
        finally:
            os._exit(code)
    assert os.read(parent_reads, 8) == b"acquired"
    assert all(lock.locked() for lock in locks)
    locks.clear()
    others = [mh.Lock() for _ in range(200)]
    for lock in others:
        assert lock.acquire(False), "none of them is one of the child's"
    os.write(parent_writes, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert all(lock.locked() for lock in others)
    for fd in (parent_reads, child_writes, child_reads, parent_writes):
        os.close(fd)


def test_a_fork_while_other_threads_use_everything() -> None:
    """Whatever they are in the middle of, the child's copy is whole."""
    stop = threading.Event()
    lock, queue = mh.Lock(), mh.Queue()

    def work(number: int) -> None:
        while not stop.is_set():
            mine = [mh.Lock() for _ in range(10)]
            with mine[number], lock:
                queue.put(number)
                queue.get()
            mh.Event(name=f"{os.getpid()} fork {number}").set()
            pickle.loads(pickle.dumps(mine[3]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()

    def use() -> None:
        assert lock.acquire(timeout=20)
        lock.release()
        own = [mh.Lock() for _ in range(10)]
        for each in own:
            assert each.acquire(False)
        for number in range(3):
            assert mh.Event(name=f"{os.getppid()} fork {number}") is not None

    try:
        for _ in range(30):
            assert forked(use) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_grandchildren() -> None:
    lock, semaphore = mh.Lock(), mh.Semaphore(3)

    def deeper(depth: int) -> None:
        assert semaphore.acquire(False)
        assert not lock.acquire(False)
        if depth:
            assert forked(lambda: deeper(depth - 1)) == 0
        semaphore.release()

    with lock:
        assert forked(lambda: deeper(2)) == 0
    assert semaphore.get_value() == 3
    assert forked(lambda: take(lock)) == 0


def fork_in_a_task(lock: Any, event: Any) -> int:
    mine = mh.Lock()
    mine.acquire()

    def use() -> None:
        assert not lock.acquire(False)
        assert not mine.acquire(False)
        event.set()

    return forked(use)


def test_a_fork_in_a_task() -> None:
    lock, event = mh.Lock(), mh.Event()
    with lock, mh.ProcessPoolExecutor(max_workers=1) as pool:
        assert pool.submit(fork_in_a_task, lock, event).result(20) == 0
    assert event.is_set()


def test_more_children_than_leases() -> None:
    """Those that come too late for a participant slot do without."""
    lock = mh.Lock()
    reads, writes = os.pipe()
    pids = []
    for _ in range(530):
        pid = os.fork()
        if pid == 0:
            os.close(writes)
            os.read(reads, 1)
            ok = lock.acquire(timeout=20)
            lock.release()
            os._exit(0 if ok else 1)
        pids.append(pid)
    os.close(writes)
    codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids}
    os.close(reads)
    assert codes == {0}
    assert lock.acquire(False)
    lock.release()
    # Their participant slots are free again.
    more = [mh.Lock() for _ in range(3000)]
    assert forked(lambda: more[7].acquire(False)) == 0


# How long it lives


def test_unnamed_objects_are_freed_with_their_last_handle() -> None:
    gc.collect()
    locks = [mh.Lock() for _ in range(20_000)]
    full, _ = shared_memory()
    del locks
    gc.collect()
    more = [mh.Lock() for _ in range(20_000)]
    assert shared_memory()[0] <= full
    del more


def test_what_the_dead_held_is_freed() -> None:
    locks = [mh.Lock() for _ in range(2_000)]
    pid = os.fork()
    if pid == 0:
        signal_never = threading.Event()
        signal_never.wait()
    del locks
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    # Made until the sweep has come; then there is room where the child's were.
    full = 0
    for _ in range(20):
        more = [mh.Lock() for _ in range(2_000)]
        full = max(full, shared_memory()[0])
        del more
    assert full <= shared_memory()[0] + (2 << 20)


def test_a_user_that_holds_it_is_told_apart_from_the_maker(tmp_path: Path) -> None:
    """The maker goes; those who opened it go on with each other."""
    code = """
import pickle
lock = mh.Lock()
print(pickle.dumps(lock).hex(), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", "import sys, manyhands as mh\n" + code]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as program:
        assert program.stdin is not None and program.stdout is not None
        data = bytes.fromhex(program.stdout.readline())
        lock = pickle.loads(data)
        program.kill()
        program.wait(30)
    with running("spawn", tmp_path, "owner", hold, lock) as owner:
        assert not lock.acquire(False)
        let_go(tmp_path)
        owner.ended_well()
    assert lock.acquire(timeout=20)
    lock.release()
