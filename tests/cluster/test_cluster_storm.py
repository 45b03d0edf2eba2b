"""A ledger of what was sent, run and answered, while workers are killed and the broker restarts."""

from __future__ import annotations

import os
import random
import signal
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

import manyhands as mh
from manyhands._cluster.private_broker import PrivateBroker
from task_worker import TaskWorker, task_worker

pytestmark = pytest.mark.once("its processes are those of other tests, and most of it is Rust")

TASKS = """
import os
import manyhands as mh

@mh.task
def note(number):
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, b"%d\\n" % number)
    os.close(file)
    return number
"""


class Ledger:
    """What was sent to two workers, and what has become of it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ledger"
        self.kills = 0
        self.restarts = 0
        self._folder = folder
        self._random = random.Random(folder.name)

    def keep(self, count: int, kills: int, restarts: int, patience_s: float) -> None:
        """Send tasks until so many kills and restarts have happened among them, and check all."""
        queue = f"storm-{uuid.uuid4().hex[:8]}"
        with PrivateBroker() as broker, ExitStack() as stack:

            def start() -> tuple[TaskWorker, ExitStack]:
                own = stack.enter_context(ExitStack())
                run = task_worker(
                    self._folder, broker.url, queue, text=TASKS, LEDGER=str(self.file)
                )
                return own.enter_context(run), own

            workers = [start(), start()]
            executor = stack.enter_context(mh.ClusterExecutor(broker.url, queue))
            deadline = time.monotonic() + patience_s
            futures = [executor.submit("fleet_tasks.note", number) for number in range(count)]
            while not all(future.done() for future in futures):
                assert time.monotonic() < deadline, executor.statistics()
                if self.restarts < restarts * self.kills / max(kills, 1):
                    broker.restart(kill=self._random.random() < 0.5)
                    self.restarts += 1
                elif self.kills < kills:
                    victim = self._random.randrange(2)
                    worker, own = workers[victim]
                    worker.end(signal.SIGKILL)
                    own.close()
                    workers[victim] = start()
                    self.kills += 1
                time.sleep(self._random.random() * 0.2)
            assert [future.result() for future in futures] == list(range(count))
        runs = Counter(map(int, self.file.read_text().split()))
        assert runs.keys() == {*range(count)}
        print(f"{sum(runs.values()) - count} of {count} ran again; {self.kills} kills")


@pytest.mark.usefixtures("installed_rabbitmq")
@pytest.mark.timeout(180)
def test_a_small_storm(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.keep(4_000, kills=2, restarts=1, patience_s=150)


@pytest.mark.storm
@pytest.mark.usefixtures("installed_rabbitmq")
@pytest.mark.timeout(7200)
def test_a_storm(tmp_path: Path) -> None:
    size = int(os.environ.get("MANYHANDS_STORM_TASKS", "100000"))
    ledger = Ledger(tmp_path)
    ledger.keep(size, kills=size // 200, restarts=size // 5000, patience_s=7000)
