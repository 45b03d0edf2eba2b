"""Processes that use all primitives at once are killed and stopped at any moment.

Whatever the moment: nobody waits forever, no two have the lock, permits and items are conserved;
also when all of them die at once.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import random
import signal
import sys
import time
from collections.abc import Iterator

import pytest

import manyhands as mh
from eventually import eventually
from holders import pass_without_waitv, state_of

WORKERS = 4
PERMITS = 3
# The longest that a process is left alone before it is killed, and that it stays stopped.
LIFE_S = 0.012
STOP_S = 0.03
# Kills after which the survivors must go on, and after which all die.
LOOK_EVERY = 25
CLEAR_EVERY = 75
# What one process puts into the queue in its life, at the most.
MOST_ITEMS = 2048
# Bytes of an item: in place, pickled, and longer than what is copied in one go.
SIZES = (0, 500, 5_000, 100_000)


class Board:
    """Numbers in memory that all processes have, each written by one process at a time."""

    FIXED = 8

    def __init__(self, lives: int) -> None:
        self._numbers = memoryview(mmap.mmap(-1, 8 * (self.FIXED + 3 * lives))).cast("q")
        self.seen = mmap.mmap(-1, lives * MOST_ITEMS)
        self.lives = lives

    def __getitem__(self, index: int) -> int:
        return self._numbers[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._numbers[index] = value

    def of(self, life: int, what: int) -> int:
        """Index of a number of one life: STEPS, ADDED or PUT."""
        return self.FIXED + 3 * life + what

    def note(self, item: tuple[int, int, int, bytes]) -> None:
        """Note that an item has arrived."""
        life, number, size, filling = item
        assert filling == b"x" * size
        self.seen[life * MOST_ITEMS + number] += 1


# Of all: how many are in the locked part, how often two were, the number added up, whether to end.
OWNER, WRONG, TOTAL, END = range(4)
# Of one life: steps done, additions done, items put.
STEPS, ADDED, PUT = range(3)


class Things:
    """What the processes share."""

    def __init__(self) -> None:
        self.lock = mh.Lock(on_owner_died="acquire")
        self.rlock = mh.RLock(on_owner_died="acquire")
        self.permits = mh.BoundedSemaphore(PERMITS)
        self.event = mh.Event()
        self.condition = mh.Condition(mh.RLock(on_owner_died="acquire"))
        self.queue = mh.Queue(64)
        # To which some items are passed on.
        self.second = mh.Queue()


class Life:
    """One process, from its fork until it is killed or told to end."""

    def __init__(self, number: int, things: Things, board: Board, seed: int) -> None:
        self.number = number
        self.things = things
        self.board = board
        self.choice = random.Random(f"{seed}/{number}")

    def live(self) -> None:
        board, acts = self.board, [self.add, self.add_nested, self.use_permits, self.tell]
        acts += [self.wait, self.put, self.put, self.get, self.get, self.pass_on]
        while not board[END]:
            self.choice.choice(acts)()
            board[board.of(self.number, STEPS)] += 1

    def alone(self) -> None:
        """Notice anybody else who is here at the same time."""
        self.board[OWNER] = self.number
        for _ in range(self.choice.randrange(50)):
            if self.board[OWNER] != self.number:
                self.board[WRONG] += 1

    def add(self) -> None:
        with self.things.lock:
            self.alone()
            self.board[TOTAL] += 1
        self.board[self.board.of(self.number, ADDED)] += 1

    def add_nested(self) -> None:
        with self.things.rlock, self.things.rlock:
            self.add()

    def use_permits(self) -> None:
        with self.things.permits:
            if self.choice.random() < 0.3 and self.things.permits.acquire(timeout=0.001):
                self.things.permits.release()

    def tell(self) -> None:
        self.things.event.set()
        with self.things.condition:
            self.things.condition.notify()
        self.things.event.clear()

    def wait(self) -> None:
        self.things.event.wait(0.001)
        with self.things.condition:
            self.things.condition.wait(0.001)

    def put(self) -> None:
        done = self.board.of(self.number, PUT)
        if self.board[done] < MOST_ITEMS:
            size = self.choice.choice(SIZES)
            with contextlib.suppress(queue.Full):
                item = (self.number, self.board[done], size, b"x" * size)
                self.things.queue.put(item, timeout=0.001)
                self.board[done] += 1

    def get(self) -> None:
        source = self.choice.choice((self.things.queue, self.things.second))
        with contextlib.suppress(queue.Empty):
            self.board.note(source.get(timeout=0.001))

    def pass_on(self) -> None:
        """Be killed with a permit, an item and the lock."""
        with self.things.permits, contextlib.suppress(queue.Empty):
            item = self.things.queue.get(timeout=0.001)
            with self.things.lock if self.choice.random() < 0.3 else contextlib.nullcontext():
                self.things.second.put(item)


class Storm:
    """Keeps so many processes alive, and kills them."""

    def __init__(self, kills: int, seed: int) -> None:
        self.things = Things()
        # All of those alive may die at once, and then again as many at the end.
        self.board = Board(kills + 2 * WORKERS)
        self.seed = seed
        self.choice = random.Random(seed)
        self.started = self.killed = self.stopped = 0
        self.alive: dict[int, int] = {}  # process id -> number of its life

    def start(self) -> None:
        life = Life(self.started, self.things, self.board, self.seed)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                life.live()
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)
        self.alive[pid] = self.started
        self.started += 1

    def kill_one(self) -> None:
        pid = self.choice.choice(list(self.alive))
        if self.choice.random() < 0.2:
            os.kill(pid, signal.SIGSTOP)
            self.stopped += 1
            time.sleep(self.choice.random() * STOP_S)
            if self.choice.random() < 0.5:
                os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
        self.bury(pid)

    def kill_all(self) -> None:
        for pid in self.alive:
            os.kill(pid, signal.SIGKILL)
        for pid in list(self.alive):
            self.bury(pid)

    def bury(self, pid: int) -> None:
        del self.alive[pid]
        self.killed += 1
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL

    def all_go_on(self) -> None:
        """Nobody waits for one of the dead."""
        steps = [self.board.of(life, STEPS) for life in self.alive.values()]
        before = [self.board[index] for index in steps]

        def have_gone_on() -> bool:
            assert all(state_of(pid) != "Z" for pid in self.alive), "a process has failed"
            return all(self.board[index] > old for index, old in zip(steps, before, strict=True))

        eventually(have_gone_on, "every process takes another step")

    def end(self) -> None:
        self.board[END] = 1
        for pid in list(self.alive):
            _, status = os.waitpid(pid, 0)
            del self.alive[pid]
            assert os.waitstatus_to_exitcode(status) == 0

    def check(self) -> None:
        """Everything is free, and nothing is missing; to be called when nobody is alive."""
        things, board = self.things, self.board
        assert board[WRONG] == 0, "two had the lock"
        for lock in (things.lock, things.rlock, things.condition):
            assert lock.acquire(timeout=20)
            lock.release()
        permits = [things.permits.acquire(False) for _ in range(PERMITS + 1)]
        assert permits == [True] * PERMITS + [False]
        things.permits.release(PERMITS)
        added = sum(board[board.of(life, ADDED)] for life in range(self.started))
        assert added <= board[TOTAL] <= added + self.killed
        for source in (things.queue, things.second):
            with contextlib.suppress(queue.Empty):
                while True:
                    board.note(source.get(False))
            assert source.qsize() == 0
        assert self.lost() <= self.killed

    def lost(self) -> int:
        """How many items did not arrive: what a process had taken when it was killed."""
        lost = 0
        for life in range(self.started):
            put = self.board[self.board.of(life, PUT)]
            seen = self.board.seen[life * MOST_ITEMS : (life + 1) * MOST_ITEMS]
            assert max(seen) <= 1, "an item came twice"
            # Whoever was killed while it put an item may have put it.
            assert not any(seen[put + 1 :]), "an item came that nobody put"
            lost += seen[:put].count(0)
        return lost


@contextlib.contextmanager
def storm(kills: int, seed: int) -> Iterator[Storm]:
    made = Storm(kills, seed)
    try:
        yield made
    finally:
        for pid in made.alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        made.things.queue.close()
        made.things.second.close()


def rage(kills: int, seed: int) -> None:
    with storm(kills, seed) as made:
        number = 0
        while made.killed < kills:
            while len(made.alive) < WORKERS:
                made.start()
            time.sleep(made.choice.random() * LIFE_S)
            made.kill_one()
            number += 1
            if number % LOOK_EVERY == 0:
                made.all_go_on()
            if number % CLEAR_EVERY == 0:
                made.kill_all()
                made.check()
        made.end()
        made.check()
        assert made.stopped > 0
        put = sum(made.board[made.board.of(life, PUT)] for life in range(made.started))
        assert put > kills


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_storm_over_everything() -> None:
    rage(300, 1)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif("MANYHANDS_NO_WAITV" in os.environ, reason="this is the run without it")
def test_the_same_without_futex_waitv() -> None:
    pass_without_waitv(__file__, timeout_s=220)


@pytest.mark.storm
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(8))
def test_a_long_storm_over_everything(seed: int) -> None:
    rage(5_000, seed)
