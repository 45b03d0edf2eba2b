"""Keeping a worker of a thread pool busy while a test looks at the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import manyhands as mh


@contextmanager
def occupied(executor: mh.ThreadPoolExecutor) -> Iterator[mh.Future[bool]]:
    """Keep one worker busy as long as the block runs."""
    begun, go = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return go.wait()

    future = executor.submit(hold)
    assert begun.wait(timeout=20)
    try:
        yield future
    finally:
        go.set()
