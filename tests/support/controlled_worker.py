"""`manyhands worker` under a name, and how it is asked by remote control."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from task_worker import TASKS, WATCHDOG, TaskWorker, task_worker

MORE = """
@mh.task
async def wait_in(folder):
    Path(folder, "coroutine.pid").write_text(str(os.getpid()))
    try:
        await asyncio.sleep(3600)
    finally:
        Path(folder, "left").touch()
"""


@contextmanager
def named_worker(
    folder: Path, url: str, queue: str, *words: str, kind: str = "process:2"
) -> Iterator[tuple[TaskWorker, str]]:
    """Run a worker; return it and its name in the fleet."""
    name = f"w-{uuid4().hex[:8]}"
    more = ("--hostname", f"{name}@%h", *words)
    with task_worker(folder, url, queue, "--workers", kind, *more, text=TASKS + MORE) as worker:
        yield worker, f"{name}@{os.uname().nodename}"


def ask(app: Any, name: str, command: str, **arguments: Any) -> Any:
    """Return what one worker answers, as soon as it does."""
    answers = app.control.broadcast(
        command, arguments, destination=[name], reply=True, timeout=WATCHDOG, limit=1
    )
    (answer,) = answers
    assert list(answer) == [name]
    return answer[name]
