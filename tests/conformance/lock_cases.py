"""CPython's tests of locks, events and barriers (`test.lock_tests`), on our classes."""

from __future__ import annotations

import threading
import types
import unittest
from importlib import import_module
from typing import Any

import manyhands as mh

# Not every Python comes with it, and it has no types.
suite: Any = import_module("test.lock_tests")

# The tests make the lock of a Condition with threading.Lock(); a Condition of ours takes our locks.
suite.threading = types.SimpleNamespace(**{**vars(threading), "Lock": mh.Lock})


class LockTests(suite.LockTests):  # type: ignore[misc]
    locktype = staticmethod(mh.Lock)


class RLockTests(suite.RLockTests):  # type: ignore[misc]
    locktype = staticmethod(mh.RLock)


class EventTests(suite.EventTests):  # type: ignore[misc]
    eventtype = staticmethod(mh.Event)


class ConditionAsRLockTests(suite.RLockTests):  # type: ignore[misc]
    # A Condition has an RLock of its own and offers its methods.
    locktype = staticmethod(mh.Condition)


class ConditionTests(suite.ConditionTests):  # type: ignore[misc]
    condtype = staticmethod(mh.Condition)


class SemaphoreTests(suite.SemaphoreTests):  # type: ignore[misc]
    semtype = staticmethod(mh.Semaphore)


class BoundedSemaphoreTests(suite.BoundedSemaphoreTests):  # type: ignore[misc]
    semtype = staticmethod(mh.BoundedSemaphore)


class BarrierTests(suite.BarrierTests):  # type: ignore[misc]
    barriertype = staticmethod(mh.Barrier)


if __name__ == "__main__":
    unittest.main()
