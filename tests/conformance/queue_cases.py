"""CPython's tests of `queue` (`test.test_queue`), on our queues."""

from __future__ import annotations

import queue
import types
import unittest
from importlib import import_module
from typing import Any

import manyhands as mh

# Not every Python comes with it, and it has no types.
suite: Any = import_module("test.test_queue")


class PriorityQueue(mh.PriorityQueue):
    """Takes bare items, as the tests put them; ours takes pairs of a number and an item."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        number = item if isinstance(item, int) else 0
        super().put((number, item), block, timeout)

    def put_nowait(self, item: Any) -> None:
        self.put(item, block=False)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block, timeout)[1]

    def get_nowait(self) -> Any:
        return self.get(block=False)


# What the tests take for the module `queue`.
OURS = types.SimpleNamespace(
    Queue=mh.Queue,
    LifoQueue=mh.LifoQueue,
    PriorityQueue=PriorityQueue,
    SimpleQueue=mh.SimpleQueue,
    Empty=queue.Empty,
    Full=queue.Full,
    ShutDown=mh.ShutDown,
)


class QueueTests(suite.QueueTest, unittest.TestCase):  # type: ignore[misc]
    queue = OURS


class LifoQueueTests(suite.LifoQueueTest, unittest.TestCase):  # type: ignore[misc]
    queue = OURS


class PriorityQueueTests(suite.PriorityQueueTest, unittest.TestCase):  # type: ignore[misc]
    queue = OURS


class FailingQueueTests(suite.FailingQueueTest, unittest.TestCase):  # type: ignore[misc]
    queue = OURS


class SimpleQueueTests(suite.CSimpleQueueTest):  # type: ignore[misc]
    queue = OURS
