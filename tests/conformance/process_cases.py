"""CPython's tests of `multiprocessing`'s locks, queues, pipes and values, on our classes.

Made by `test._test_multiprocessing` itself, for the start method that is set when this is
imported. The children of the tests import this module as well: their targets are methods of its
classes.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.dummy
from importlib import import_module
from typing import Any

import manyhands as mh
from conformance import substitution

NAMES = (
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Pipe",
    "Queue",
    "RLock",
    "Semaphore",
    "SimpleQueue",
    "Value",
)

substitution.find_suite()
for name in NAMES:
    # Before the suite is imported: it copies some of these into its classes, for processes from
    # the one module and for threads from the other.
    for module in (multiprocessing, multiprocessing.dummy):
        setattr(module, name, getattr(mh, name))

# Not every Python comes with it, and it has no types.
suite: Any = import_module("test._test_multiprocessing")


def close_queue(queue: Any) -> None:
    """Close a queue of ours; the suite's own function knows only multiprocessing's."""
    queue.close()


def check_invariant(_test: Any, _condition: Any) -> None:
    """Look at nothing: the suite's own method adds up the semaphores inside a Condition."""


suite.close_queue = close_queue
suite._TestCondition.check_invariant = check_invariant
suite.Value = mh.Value
suite.PRELOAD = ["__main__", __name__]
suite.install_tests_in_module_dict(globals(), multiprocessing.get_start_method())
