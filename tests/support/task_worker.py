"""`manyhands worker` as a process of a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventually import eventually

WATCHDOG = 40.0
MODULE = "fleet_tasks"
TASKS = """
import asyncio, os, signal, time
from pathlib import Path
import manyhands as mh

@mh.task
def add(x: int, y: int) -> int:
    return x + y

@mh.task
def echo(*args, **kwargs):
    return [args, kwargs]

@mh.task
def fail(*args):
    raise ValueError(args[-1], 3)

@mh.task
async def nap(seconds):
    await asyncio.sleep(seconds)
    return seconds

@mh.task(bind=True, max_retries=2)
def flaky(attempt, times):
    if attempt.retries < times:
        attempt.retry(KeyError("again"), countdown=0.05)
    return attempt.retries

@mh.task(bind=True, max_retries=1, retry_on=KeyError, retry_delay=0.05)
def fickle(attempt):
    if not attempt.retries:
        raise KeyError("again")
    return attempt.id

@mh.task
def die(path, times):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.path.getsize(path)

@mh.task
def hold(folder, name):
    Path(folder, name + ".new").write_text(str(os.getpid()))
    Path(folder, name + ".new").rename(Path(folder, name + ".pid"))
    while not Path(folder, "go").exists():
        time.sleep(0.005)
    return name

@mh.task(time_limit=0.3)
def hang():
    while True:
        time.sleep(0.05)

@mh.task(soft_time_limit=0.1)
def tidy(seconds):
    try:
        time.sleep(seconds)
    except mh.SoftTimeLimitExceeded:
        return "tidied"

@mh.task(ignore_result=True)
def quiet(path):
    Path(path).touch()

@mh.task
def note(result, path):
    Path(path).write_text(str(result))
"""


class TaskWorker:
    """A running `manyhands worker`, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def wait_until_it_consumes(self) -> None:
        def consumes() -> bool:
            assert self.process.poll() is None, "".join(self.said)
            return any("consumes from" in line for line in self.said)

        eventually(consumes, "the worker consumes", WATCHDOG)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; return its exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait until it has ended; return its exit status."""
        status = self.process.wait(WATCHDOG)
        self._reader.join(WATCHDOG)
        return status


@contextmanager
def task_worker(
    folder: Path, url: str, queue: str, *words: str, text: str = TASKS, **more: str
) -> Iterator[TaskWorker]:
    """Run a worker on a queue; `text` is its module of tasks. Its end need not be waited for."""
    (folder / f"{MODULE}.py").write_text(text)
    command = [sys.executable, "-m", "manyhands", "worker", MODULE, "--queues", queue]
    with subprocess.Popen(
        [*command, *(words or ("--workers", "process:2"))],
        cwd=folder,
        env={**os.environ, "AMQP_URL": url, **more},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        worker = TaskWorker(process)
        try:
            worker.wait_until_it_consumes()
            yield worker
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT)
            try:
                worker.ended()
            except subprocess.TimeoutExpired:
                process.kill()
                raise
