"""Puts our classes in the place of the standard library's, and finds CPython's tests of them.

The tests are those of the installed `test` package; nothing of them is copied. Some installations
lack `test.test_concurrent_futures`: then another interpreter's on this machine are borrowed.

This module is also imported by the subprocesses that the tests start.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import sys
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import _base, process
from pathlib import Path
from typing import Any

SUITE = "test_concurrent_futures"
# The minor version of Python 3 that the package was laid out for.
OLDEST = 11

# The classes to be tested, by the kind that the runner is given.
CLASSES = {
    "thread": ("ThreadPoolExecutor",),
    "process": ("ProcessPoolExecutor",),
    "coroutine": ("ThreadPoolExecutor",),
    "greenlet": ("ThreadPoolExecutor",),
    "asyncio": ("ThreadPoolExecutor",),
}


def substitute(kind: str) -> None:
    """Make `concurrent.futures` offer our classes; must come before the tests are imported."""
    import manyhands

    _base.Future = concurrent.futures.Future = manyhands.Future  # type: ignore[misc]
    home: Any = manyhands
    if kind == "coroutine":
        from conformance import coroutine_executor as home
    elif kind == "greenlet":
        from conformance import greenlet_executor as home
    for name in CLASSES[kind]:
        setattr(concurrent.futures, name, getattr(home, name))
    if kind == "process":
        # The tests look for the very class of the cause of a worker's exception.
        from manyhands._errors import base

        setattr(process, "_RemoteTraceback", base.RemoteTraceback)  # noqa: B010 - a type


def replace_socketserver() -> None:
    """Put our servers in the place of the module; must come before anything imports that."""
    assert "socketserver" not in sys.modules, "something has imported the standard library's"
    import manyhands.server

    sys.modules["socketserver"] = manyhands.server
    for name in manyhands.server.__all__:
        # The tests compare the names that the module offers with what says that it is from there.
        getattr(manyhands.server, name).__module__ = "socketserver"
    # Else tests of servers are left out, since they use sockets, or since they take some seconds.
    support: Any = importlib.import_module("test.support")
    support.use_resources = ["network", "socket", "walltime"]


def find_suite() -> str | None:
    """Make `test.test_concurrent_futures` importable.

    Returns:
        where it comes from if it is another interpreter's, "" if it is this one's own, None if
        there is none on this machine.
    """
    try:
        import test.support  # type: ignore[import-not-found]
    except ImportError:
        return None
    if importlib.util.find_spec(f"test.{SUITE}") is not None:
        return ""
    homes = set(_homes())
    if not homes:
        return None
    # The nearest; of two that are as near, the newer.
    _, folder = min(homes, key=lambda home: (abs(home[0] - sys.version_info.minor), -home[0]))
    # At the end: whatever this interpreter has itself comes first.
    test.__path__.append(folder)
    _complete(test.support)
    _have_workers_find_it()
    return folder


def _have_workers_find_it() -> None:
    """Have every process pool import the module that does this in its workers, too."""
    import manyhands

    defaults: Any = manyhands.ProcessPoolExecutor.__init__.__kwdefaults__
    defaults["preload"] = ("conformance.borrowed",)


def _homes() -> Iterator[tuple[int, str]]:
    """Yield (minor version, folder of its `test` package) of the other interpreters."""
    prefixes = [Path(sys.base_prefix), Path("/usr"), Path("/usr/local")]
    prefixes += Path(sys.base_prefix).parent.glob("3.*")
    for path in os.get_exec_path():
        found = [shutil.which(f"python3.{minor}", path=path) for minor in range(OLDEST, 20)]
        prefixes += [Path(each).resolve().parent.parent for each in found if each]
    for prefix in prefixes:
        for folder in prefix.glob("lib/python3.*/test"):
            minor = re.fullmatch(r"python3\.(\d+)", folder.parent.name)
            has_suite = (folder / SUITE).is_dir() or (folder / f"{SUITE}.py").is_file()
            if minor and int(minor[1]) >= OLDEST and has_suite:
                yield int(minor[1]), str(folder)


def _complete(support: Any) -> None:
    """Give an older `test.support` what borrowed newer tests ask of it."""

    def requires_gil_enabled(_reason: str) -> Callable[[Any], Any]:
        return unittest.skipIf(False, "the interpreters that lack this name have a GIL")

    if not hasattr(support, "Py_GIL_DISABLED"):
        support.Py_GIL_DISABLED = False
        support.requires_gil_enabled = requires_gil_enabled
    if "thread" not in inspect.signature(support.check_sanitizer).parameters:
        # No interpreter that old was built with the thread sanitizer.
        support.check_sanitizer = _without_thread(support.check_sanitizer)
        support.skip_if_sanitizer = _without_thread(support.skip_if_sanitizer)


def _without_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have `function` accept ``thread=True``, and ignore it."""

    def accepting(*args: Any, thread: bool = False, **kwargs: Any) -> Any:
        if not thread or kwargs:
            return function(*args, **kwargs)
        return (lambda test: test) if args else False

    return accepting
