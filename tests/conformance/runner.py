"""Runs CPython's own tests against our classes: ``python runner.py KIND``, a key of `PLAN`.

Prints what the tests print, and as its last line a JSON object: ``source`` (where the tests come
from), ``ran``, ``failed`` (a list of test ids), ``skipped`` (test id → reason), ``absent``
(entries of skips.toml that match no test). Exits with 0 if nothing failed and nothing is absent,
with 77 if there are no tests on this machine.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import json
import multiprocessing
import os
import sys
import tomllib
import unittest
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
sys.path.insert(0, str(TESTS))

from conformance import substitution  # noqa: E402 - found by the line above

NO_TESTS = 77

# A suite that takes longer hangs: the stacks of its threads are printed, and it ends.
LIMIT_S = float(os.environ.get("CONFORMANCE_LIMIT_S", "840"))

# What is run of which modules, as patterns of "Class.method".
CONCURRENT_FUTURES = [
    f"test.{substitution.SUITE}.{name}"
    for name in (
        "test_as_completed",
        "test_deadlock",
        "test_future",
        "test_init",
        "test_process_pool",
        "test_shutdown",
        "test_thread_pool",
        "test_wait",
    )
]
START_METHODS = ("fork", "spawn", "forkserver")
# The classes of test._test_multiprocessing that fit: of what we have, not of what comes from there.
MULTIPROCESSING = (
    "Array",
    "Barrier",
    "Condition",
    "Connection",
    "Event",
    "Lock",
    "PicklingConnections",
    "Poll",
    "Queue",
    "Semaphore",
    "SharedCTypes",
    "Value",
)
PLAN: dict[str, tuple[list[str], list[str]]] = {
    "thread": (CONCURRENT_FUTURES, ["ThreadPool*", "FutureTests.*"]),
    "coroutine": (CONCURRENT_FUTURES, ["ThreadPool*"]),
    "greenlet": (CONCURRENT_FUTURES, ["ThreadPool*"]),
    "process": (CONCURRENT_FUTURES, ["ProcessPool*", "FailingInitializerResourcesTest.*"]),
    "asyncio": (
        [
            "test.test_asyncio.test_futures",
            "test.test_asyncio.test_base_events",
            "test.test_asyncio.test_events",
        ],
        ["*.test_wrap_future*", "*.test_*executor*"],
    ),
    "locks": (["conformance.lock_cases"], ["*"]),
    "queues": (["conformance.queue_cases"], ["*"]),
    "servers": (
        [
            f"test.{name}"
            for name in ("test_socketserver", "test_wsgiref", "test_httpservers", "test_xmlrpc")
        ],
        ["*"],
    ),
    # Of these, what starts servers, and asks no other machine. Tests of IMAP come twice, with TLS
    # and without; what takes long is in one of both.
    "server-users": (
        [
            f"test.{name}"
            for name in (
                "test_imaplib",
                "test_logging",
                "test_robotparser",
                "test_ssl",
                "test_urllib2_localnet",
            )
        ],
        [
            "NewIMAPTests.*",
            "ThreadedNetworkedTestsSSL.*",
            *(
                f"{kind}HandlerTest.*"
                for kind in (
                    "Datagram",
                    "HTTP",
                    "IPv6SysLog",
                    "Socket",
                    "SysLog",
                    "UnixDatagram",
                    "UnixSocket",
                    "UnixSysLog",
                )
            ),
            "ConfigDictTest.test_listen*",
            "LocalNetworkTestCase.*",
            "HttpErrorsTestCase.*",
            "PasswordProtectedSiteTestCase.*",
            "ThreadedTests.test_socketserver",
            "BasicAuthTests.*",
            "ProxyAuthTests.*",
            "TestUrlopen.test_[!s]*",
            "TestUrlopen.test_s[!i]*",
        ],
    ),
    "threads": (
        ["conformance.process_cases"],
        [f"WithThreadsTest{name}.*" for name in MULTIPROCESSING],
    ),
    **{
        method: (
            ["conformance.process_cases"],
            [
                *(f"WithProcessesTest{name}.*" for name in MULTIPROCESSING),
                "TestSimpleQueue.*",
                "TestWait.test_neg_timeout",
                "TestWait.test_wait",
                "TestWait.test_wait_integer",
                "TestWait.test_wait_slow",
                "TestWait.test_wait_timeout",
                "TestIgnoreEINTR.test_ignore",
            ],
        )
        for method in START_METHODS
    },
}


@dataclass(frozen=True)
class Skip:
    """An entry of skips.toml."""

    tests: str
    reason: str
    since: str | None = None
    only_from: str | None = None

    def applies(self) -> bool:
        """Whether the interpreter is too old for these tests, if that is why they are left out."""
        return self.since is None or is_older_than(self.since)

    def is_expected(self) -> bool:
        """Whether the interpreter surely has these tests."""
        if self.only_from is None:
            return True
        # A candidate of 3.15 may lack what a later release of 3.14 has; and that release, or a
        # later one of 3.13, may have been given what came with 3.15.
        return sys.version_info.releaselevel == "final" and not is_older_than(self.only_from)


def is_older_than(version: str) -> bool:
    """Whether the interpreter is older than a version such as "3.14" or "3.14.10"."""
    return sys.version_info[:3] < tuple(map(int, version.split(".")))


def skips_of(kind: str) -> list[Skip]:
    """Return the entries for a kind that apply to this interpreter."""
    sections = [kind]
    if kind in START_METHODS:
        sections.append("start-methods")
    with (HERE / "skips.toml").open("rb") as file:
        listed = tomllib.load(file)
    entries = [Skip(**entry) for section in sections for entry in listed.get(section, [])]
    return [entry for entry in entries if entry.applies()]


def name_of(test: unittest.TestCase) -> str:
    """Return "Class.method"."""
    return ".".join(test.id().rsplit(".", 2)[1:])


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Yield the tests of a suite of suites."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from flatten(each)
        else:
            yield each


def modules_of(kind: str) -> list[Any]:
    """Import the test modules; older interpreters have one for all of concurrent.futures."""
    names = PLAN[kind][0]
    if names is CONCURRENT_FUTURES:
        package = importlib.import_module(f"test.{substitution.SUITE}")
        if not hasattr(package, "__path__"):
            return [package]
    return [importlib.import_module(name) for name in names]


def collect(kind: str, skips: list[Skip]) -> tuple[unittest.TestSuite, list[Skip]]:
    """Return the tests to run, those to skip marked, and the entries that match none of them."""
    loader = unittest.TestLoader()
    patterns = PLAN[kind][1]
    chosen = unittest.TestSuite()
    unused = {skip for skip in skips if skip.is_expected()}
    for module in modules_of(kind):
        for test in flatten(loader.loadTestsFromModule(module)):
            name = name_of(test)
            if not any(fnmatchcase(name, pattern) for pattern in patterns):
                continue
            for skip in skips:
                if fnmatchcase(name, skip.tests):
                    unused.discard(skip)
                    method = test.id().rsplit(".", 1)[1]
                    setattr(test, method, unittest.skip(skip.reason)(getattr(test, method)))
            chosen.addTest(test)
    return chosen, [skip for skip in skips if skip in unused]


def substitute_in_subprocesses(kind: str) -> None:
    """Have the scripts that the tests run in fresh interpreters use our classes too."""
    from test.support import script_helper  # type: ignore[import-not-found]

    original = script_helper.assert_python_ok
    paths = [each for each in sys.path if each]
    prologue = (
        f"import sys; sys.path[:] = {paths!r}; from conformance import substitution; "
        f"substitution.find_suite(); substitution.substitute({kind!r})\n"
    )

    @functools.wraps(original)
    def assert_python_ok(*arguments: str, **environment: Any) -> Any:
        option, script, *rest = arguments
        return original(option, prologue + script, *rest, **environment)

    script_helper.assert_python_ok = assert_python_ok


def prepare(kind: str) -> None:
    """Put our classes in the place of the standard library's, before the tests are imported."""
    if kind in substitution.CLASSES:
        substitution.substitute(kind)
        substitute_in_subprocesses(kind)
    elif kind.startswith("server"):
        substitution.replace_socketserver()
    elif kind in START_METHODS:
        # The forkserver imports the tests once, for all of its children.
        os.environ["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
        multiprocessing.set_start_method(kind)


def main(kind: str) -> int:
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    source = substitution.find_suite()
    if source is None:
        print(json.dumps({"source": None}))
        return NO_TESTS
    prepare(kind)
    suite, absent = collect(kind, skips_of(kind))
    count = suite.countTestCases()
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failures = [*result.failures, *result.errors]
    failed = {test.id() for test, _ in failures}
    failed |= {test.id() for test in result.unexpectedSuccesses}
    summary = {
        "source": source,
        "ran": count - len(result.skipped),
        "failed": sorted(failed),
        "skipped": {test.id(): reason for test, reason in result.skipped},
        "absent": [skip.tests for skip in absent],
    }
    print(json.dumps(summary), flush=True)
    return 1 if failed or absent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
