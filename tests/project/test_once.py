"""The rule for what runs on one Python only: see CONTRIBUTING.md."""

from __future__ import annotations

import inspect
import re

import pytest

import manyhands
from once import ONCE
from rules import ROOT

TESTS = ROOT / "tests"
# What comes with a Python, or reaches into it: a test that uses these may differ on another one.
# Handing an object to a process that the test starts, by `pickle.dumps`, is no such use.
OF_A_PYTHON = re.compile(
    r"\b(asyncio|contextvars|inspect|importlib|traceback|weakref|cloudpickle|copyreg|warnings)\."
    r"|\b(sys\.settrace|sys\.setprofile|signal\.signal|threading\.excepthook|os\.register_at_fork)\b"
    r"|\b__(reduce|reduce_ex|getstate|setstate)__\b|\bPickler\b|\basync def\b"
)


def run_once(request: pytest.FixtureRequest) -> list[pytest.Item]:
    return [item for item in request.session.items if item.get_closest_marker("once")]


def test_every_file_that_runs_once_exists() -> None:
    there = [path.stem for path in TESTS.rglob("test_*.py")]
    assert {stem: there.count(stem) for stem in ONCE} == dict.fromkeys(ONCE, 1)


def test_what_runs_once_says_why(request: pytest.FixtureRequest) -> None:
    for item in run_once(request):
        (mark,) = item.iter_markers("once")
        assert mark.args and mark.args[0], item.nodeid


def test_what_belongs_to_a_python_is_tested_on_each(request: pytest.FixtureRequest) -> None:
    broken = {
        f"{item.path.stem}::{item.function.__name__}: {used[0]}"
        for item in run_once(request)
        if isinstance(item, pytest.Function)
        # Tests of the project read what they forbid.
        and "project" not in ONCE.get(item.path.stem, "")
        and (used := OF_A_PYTHON.search(inspect.getsource(item.function)))
    }
    assert not broken, "\n".join(sorted(broken))


def test_every_public_name_is_used_by_tests_that_run_on_each_python() -> None:
    words: set[str] = set()
    for path in TESTS.rglob("*.py"):
        if path.stem not in ONCE and path.stem != "test_once":
            words |= {*re.findall(r"\w+", path.read_text())}
    assert {*manyhands.__all__} <= words


def test_the_mark_is_set(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        if item.path.stem in ONCE:
            once = item.get_closest_marker("once") is not None
            assert once != (item.get_closest_marker("on_each_python") is not None), item.nodeid


def test_each_python_has_tests_of_each_folder(request: pytest.FixtureRequest) -> None:
    """A rule that would leave a part of the house out is none."""
    # Commands are programs of their own, maps are arithmetic over executors, and CPython's own
    # suites test queues on each Python.
    elsewhere = {TESTS / "command", TESTS / "map", TESTS / "queue"}
    everywhere = {path.parent for path in TESTS.rglob("test_*.py") if path.stem not in ONCE}
    assert everywhere == {path.parent for path in TESTS.rglob("test_*.py")} - elsewhere
    assert TESTS / "conformance" in everywhere
