"""Flower beside our worker: it sees what it sees of stock ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from controlled_worker import named_worker
from eventually import eventually
from stock_celery import WATCHDOG, stock_app

pytestmark = pytest.mark.once("Flower is a program of its own")


@contextmanager
def flower(folder: Path, url: str) -> Iterator[str]:
    """Run Flower; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "celery", "-b", url, "flower", "--address=127.0.0.1"]
    with (
        (folder / "flower.log").open("w") as log,
        subprocess.Popen(
            [*command, f"--port={port}"],
            cwd=folder,
            env={**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def get(address: str) -> Any:
    """Return what Flower answers; None while it does not listen yet."""
    try:
        with urllib.request.urlopen(address, timeout=WATCHDOG) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ConnectionError):
        return None


def test_flower_sees_workers_and_tasks(tmp_path: Path, amqp_url: str) -> None:
    queue = f"tasks-{uuid4().hex[:8]}"
    with (
        stock_app(amqp_url, queue) as app,
        named_worker(tmp_path, amqp_url, queue) as (_, name),
        flower(tmp_path, amqp_url) as address,
    ):
        workers: dict[str, Any] = {}

        def sees_it() -> bool:
            workers.update(get(f"{address}/api/workers?refresh=1") or {})
            # It asks many things at once, and takes what comes within a second.
            return {"active_queues", "registered", "stats", "conf"} <= {*workers.get(name, ())}

        eventually(sees_it, "Flower sees the worker", WATCHDOG)
        seen = workers[name]
        assert [each["name"] for each in seen["active_queues"]] == [queue]
        assert "fleet_tasks.add" in seen["registered"]
        assert seen["stats"]["pool"]["max-concurrency"] == 2
        assert seen["conf"]["task_default_queue"] == queue

        # It asks for events after a while; a task is seen once they come.
        def tasks() -> Any:
            app.send_task("fleet_tasks.add", (1, 2)).get(timeout=WATCHDOG)
            found = get(f"{address}/api/tasks?state=SUCCESS") or {}
            return [task for task in found.values() if task["worker"] == name]

        eventually(tasks, "Flower sees a task", WATCHDOG)
        task = tasks()[0]
        assert (task["name"], task["state"], task["result"]) == ("fleet_tasks.add", "SUCCESS", "3")
