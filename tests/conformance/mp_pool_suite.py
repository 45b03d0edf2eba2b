"""CPython's own tests of `multiprocessing.Pool`, from the installed `test` package, on `mh.Pool`.

Run by test_mp_pool.py in a process of its own: ``python -m unittest mp_pool_suite.ProcessTests``.
What is skipped is listed here with its reason.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import unittest
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import manyhands as mh

# Not every Python comes with it, and it has no types.
suite: Any = import_module("test._test_multiprocessing")

SKIPPED = {
    "test_make_pool": "counts the processes in a private attribute",
    "test_imap_handle_iterable_exception": "we yield the items before the failing one, all of them",
    "test_traceback": "asks for the class multiprocessing.pool.RemoteTraceback",
}
SKIPPED_FOR_THREADS = {"test_terminate": "threads cannot be terminated"}


class Settings:
    """What the mixins of the stdlib's test modules provide."""

    Pool: ClassVar[Any] = staticmethod(mh.Pool)
    Process = multiprocessing.Process
    Event = staticmethod(multiprocessing.Event)
    Value = staticmethod(multiprocessing.Value)
    Array = staticmethod(multiprocessing.Array)
    current_process = staticmethod(multiprocessing.current_process)
    skipped: ClassVar[dict[str, str]] = SKIPPED

    def setUp(self) -> None:
        name = self._testMethodName  # type: ignore[attr-defined]
        if name in self.skipped:
            raise unittest.SkipTest(self.skipped[name])
        super().setUp()  # type: ignore[misc]


class ProcessPool(Settings, suite._TestPool, unittest.TestCase):  # type: ignore[misc]
    TYPE = "processes"


class ThreadPool(Settings, suite._TestPool, unittest.TestCase):  # type: ignore[misc]
    TYPE = "threads"
    Pool = staticmethod(partial(mh.Pool, workers="thread"))
    skipped = {**SKIPPED, **SKIPPED_FOR_THREADS}


class WorkerLifetime(Settings, suite._TestPoolWorkerLifetime, unittest.TestCase):  # type: ignore[misc]
    TYPE = "processes"


class WorkerErrors(Settings, suite._TestPoolWorkerErrors, unittest.TestCase):  # type: ignore[misc]
    TYPE = "processes"


def ProcessTests() -> unittest.TestSuite:
    cases: list[type[unittest.TestCase]] = [ProcessPool, WorkerLifetime, WorkerErrors]
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    return unittest.TestSuite(map(load, cases))


def ThreadTests() -> unittest.TestSuite:
    return unittest.defaultTestLoader.loadTestsFromTestCase(ThreadPool)
