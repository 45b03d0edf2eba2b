"""Celery as it is: an app that sends tasks, and a worker of its own that runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eventually import eventually

WATCHDOG = 40.0
MODULE = "stock_tasks"
# A module of tasks; the broker comes by the environment, as in a fleet.
TASKS = """
import os, time
from celery import Celery
app = Celery("stock_tasks", broker=os.environ["AMQP_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["QUEUE"],
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
)

@app.task
def add(a, b):
    return a + b

@app.task
def fail(text):
    raise ValueError(text)

@app.task
def pid():
    return os.getpid()

@app.task
def hold(path):
    open(path + ".begun", "w").close()
    while not os.path.exists(path):
        time.sleep(0.01)
    return path
"""


class StockWorker:
    """A running `celery worker`, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.process = process
        self.name = name
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, name="stock worker")
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.said.extend(iter(self.process.stdout.readline, ""))

    def wait_until_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, "".join(self.said)
            return any(f"{self.name} ready." in line for line in self.said)

        eventually(is_ready, "the stock worker is ready", WATCHDOG)

    def end(self) -> None:
        """Kill it with its children."""
        os.killpg(self.process.pid, 9)
        self.process.wait(WATCHDOG)
        self._reader.join(WATCHDOG)


@contextmanager
def stock_worker(
    folder: Path, url: str, queue: str, *words: str, text: str = TASKS, **more: str
) -> Iterator[StockWorker]:
    """Run a stock worker on a queue; `text` is its module of tasks, and `app` its app.

    `words` are more arguments of ``celery worker``, such as ``--pool=solo``.
    """
    (folder / f"{MODULE}.py").write_text(text)
    name = f"stock-{uuid.uuid4().hex[:8]}@localhost"
    command = [sys.executable, "-m", "celery", "-A", MODULE, "worker", "-n", name, "-l", "INFO"]
    environment = {**os.environ, "AMQP_URL": url, "QUEUE": queue, "C_FORCE_ROOT": "1", **more}
    with subprocess.Popen(
        [*command, "-Q", queue, *(words or ("-c", "2"))],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        worker = StockWorker(process, name)
        try:
            worker.wait_until_ready()
            yield worker
        finally:
            worker.end()


@contextmanager
def stock_app(url: str, queue: str, **settings: Any) -> Iterator[Any]:
    """Return a Celery app that sends to a queue and gets results by ``rpc://``."""
    from celery import Celery
    from kombu import pools

    app = Celery(
        f"stock-{uuid.uuid4().hex[:8]}", broker=url, backend="rpc://", set_as_current=False
    )
    app.conf.update(task_default_queue=queue, **settings)
    try:
        yield app
    finally:
        if app.backend.result_consumer._connection is not None:  # a result was asked for
            app.backend.result_consumer.stop()
        app.close()
        pools.reset()  # of connections, which all apps of a process share
