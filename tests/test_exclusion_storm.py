"""Processes that use all primitives at once are killed and stopped at any moment.

Whatever the moment: nobody waits for ever, no two have the lock, permits and items are conserved.
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
from holders import state_of

WORKERS = 4
PERMITS = 3
# The longest that a process is left alone before it is killed, and that it stays stopped.
LIFE_S = 0.012
STOP_S = 0.03
# What one process puts into the queue in its life, at the most.
MOST_ITEMS = 2048


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


# Of all: who is in the locked part, how often two were, the number added up, whether to end.
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


class Life:
    """One process, from its fork until it is killed or told to end."""

    def __init__(self, number: int, things: Things, board: Board) -> None:
        self.number = number
        self.things = things
        self.board = board
        self.choice = random.Random(number)

    def live(self) -> None:
        board, acts = self.board, [self.add, self.add_nested, self.use_permits, self.tell]
        acts += [self.wait, self.put, self.put, self.get, self.get]
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
            with contextlib.suppress(queue.Full):
                self.things.queue.put((self.number, self.board[done], b"x" * 500), timeout=0.001)
                self.board[done] += 1

    def get(self) -> None:
        with contextlib.suppress(queue.Empty):
            self.take(self.things.queue.get(timeout=0.001))

    def take(self, item: tuple[int, int, bytes]) -> None:
        life, number, filling = item
        assert filling == b"x" * 500
        self.board.seen[life * MOST_ITEMS + number] += 1


class Storm:
    """Keeps so many processes alive, and kills one after the other."""

    def __init__(self, kills: int) -> None:
        self.things = Things()
        self.board = Board(kills + WORKERS)
        self.choice = random.Random(kills)
        self.started = 0
        self.alive: dict[int, int] = {}  # process id -> number of its life

    def start(self) -> None:
        life = Life(self.started, self.things, self.board)
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
            time.sleep(self.choice.random() * STOP_S)
            if self.choice.random() < 0.5:
                os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
        del self.alive[pid]
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


@contextlib.contextmanager
def storm(kills: int) -> Iterator[Storm]:
    made = Storm(kills)
    try:
        for _ in range(WORKERS):
            made.start()
        yield made
    finally:
        for pid in made.alive:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        made.things.queue.close()


def rage(kills: int) -> None:
    with storm(kills) as made:
        for number in range(kills):
            time.sleep(made.choice.random() * LIFE_S)
            made.kill_one()
            made.start()
            if number % 25 == 24:
                made.all_go_on()
        made.end()
        check(made, kills)


def check(made: Storm, kills: int) -> None:
    things, board = made.things, made.board
    assert board[WRONG] == 0
    for lock in (things.lock, things.rlock, things.condition):
        assert lock.acquire(timeout=20)
        lock.release()
    assert [things.permits.acquire(False) for _ in range(PERMITS + 1)] == [True] * PERMITS + [False]
    things.permits.release(PERMITS)
    added = sum(board[board.of(life, ADDED)] for life in range(made.started))
    assert added <= board[TOTAL] <= added + kills
    with contextlib.suppress(queue.Empty):
        while True:
            Life(0, things, board).take(things.queue.get(False))
    assert things.queue.qsize() == 0
    lost = 0
    for life in range(made.started):
        put = board[board.of(life, PUT)]
        seen = board.seen[life * MOST_ITEMS : (life + 1) * MOST_ITEMS]
        assert max(seen) <= 1, "an item came twice"
        # Whoever was killed while it put an item may have put it.
        assert not any(seen[put + 1 :]), "an item came that nobody put"
        lost += seen[:put].count(0)
    # What a process had taken over when it was killed is gone with it.
    assert lost <= kills
    assert sum(board[board.of(life, PUT)] for life in range(made.started)) > kills


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_storm_over_everything() -> None:
    rage(300)


@pytest.mark.storm
@pytest.mark.timeout(1200)
def test_a_long_storm_over_everything() -> None:
    rage(10_000)
