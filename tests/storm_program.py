"""The program of test_sync_storm.py: ``python storm_program.py KILLS SEED``.

A few processes pass tokens between two queues, each holding a permit and now and then a lock; this
one kills them at random, stops some for a while, and starts others. From time to time all are
killed and everything is counted.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import sys
import time
from typing import NoReturn

import manyhands as mh

TOKENS = 12
PERMITS = 3
WORKERS = 4
KILLS_PER_COUNT = 25
LONGEST_LIFE_S = 0.006


def work(here: mh.Queue, there: mh.Queue, permits: mh.Semaphore, lock: mh.Lock) -> NoReturn:
    chance = random.Random(os.getpid())
    while True:
        source, target = chance.choice(((here, there), (there, here)))
        with permits:
            try:
                token = source.get(timeout=0.001)
            except queue.Empty:
                continue
            if chance.random() < 0.3:
                with lock:
                    target.put(token)
            else:
                target.put(token)


def drained(*queues: mh.Queue) -> list[tuple[int, str]]:
    tokens = []
    for each in queues:
        while True:
            try:
                tokens.append(each.get_nowait())
            except queue.Empty:
                break
        assert each.qsize() == 0
    return tokens


def main(kills: int, seed: int) -> None:
    chance = random.Random(seed)
    here, there = mh.Queue(), mh.Queue()
    permits, lock = mh.BoundedSemaphore(PERMITS), mh.Lock(on_owner_died="acquire")
    workers: list[int] = []
    killed = lost = made = stopped = 0
    known: set[int] = set()

    def fill() -> None:
        nonlocal made
        for _ in range(TOKENS - len(known)):
            # Some are large: they take another way through the queue.
            known.add(made)
            here.put((made, "x" * chance.choice((0, 10, 5_000, 100_000))))
            made += 1

    def start() -> None:
        pid = os.fork()
        if pid == 0:
            work(here, there, permits, lock)
        workers.append(pid)

    def kill(pid: int) -> None:
        nonlocal killed
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        workers.remove(pid)
        killed += 1

    def count() -> None:
        nonlocal lost
        before = killed
        for pid in list(workers):
            kill(pid)
        tokens = drained(here, there)
        numbers = [number for number, _ in tokens]
        assert len(set(numbers)) == len(numbers), f"twice: {sorted(numbers)}"
        assert known.issuperset(numbers), f"unknown: {sorted(set(numbers) - known)}"
        assert all(set(text) <= {"x"} for _, text in tokens)
        missing = len(known) - len(numbers)
        # Whoever is killed between get and put takes one token along.
        assert missing <= KILLS_PER_COUNT + killed - before, f"{missing} lost"
        lost += missing
        known.intersection_update(numbers)
        assert all(permits.acquire(timeout=5) for _ in range(PERMITS)), "a permit is lost"
        assert not permits.acquire(blocking=False), "a permit too many"
        permits.release(PERMITS)
        assert lock.acquire(timeout=5)
        lock.release()
        for token in tokens:
            here.put(token)
        fill()

    fill()
    while killed < kills:
        for _ in range(KILLS_PER_COUNT):
            while len(workers) < WORKERS:
                start()
            time.sleep(chance.random() * LONGEST_LIFE_S)
            victim = chance.choice(workers)
            if chance.random() < 0.2:
                os.kill(victim, signal.SIGSTOP)
                time.sleep(chance.random() * LONGEST_LIFE_S)
                os.kill(victim, signal.SIGCONT)
                stopped += 1
            else:
                kill(victim)
        count()
    print(f"{killed} killed, {stopped} stopped, {made} tokens made, {lost} lost")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
