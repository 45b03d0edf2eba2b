"""The rule for what runs on one Python only: see CONTRIBUTING.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import manyhands
from conftest import ONCE

TESTS = Path(__file__).resolve().parent
# What comes with a Python, or reaches into it: what uses these may differ on another one.
OF_A_PYTHON = ("pickle", "copyreg", "gc", "weakref", "inspect", "concurrent.futures", "contextvars")


def test_every_file_that_runs_once_exists() -> None:
    there = [path.stem for path in TESTS.rglob("test_*.py")]
    assert {stem: there.count(stem) for stem in ONCE} == dict.fromkeys(ONCE, 1)
    assert all(ONCE.values())


def test_what_belongs_to_a_python_is_tested_on_each() -> None:
    for path in TESTS.rglob("test_*.py"):
        if path.stem in ONCE:
            imported = re.findall(r"^\s*(?:import|from) ([\w.]+)", path.read_text(), re.MULTILINE)
            assert not {*imported} & {*OF_A_PYTHON}, path.name


def test_every_public_name_is_used_by_tests_that_run_on_each_python() -> None:
    words: set[str] = set()
    for path in TESTS.rglob("*.py"):
        if path.stem not in ONCE and path.stem != "test_once":
            words |= {*re.findall(r"\w+", path.read_text())}
    assert {*manyhands.__all__} <= words


def test_the_mark_is_set(request: pytest.FixtureRequest) -> None:
    marked = [item.path.stem for item in request.session.items if item.get_closest_marker("once")]
    assert {*marked} <= {*ONCE}
    assert all(
        item.get_closest_marker("once") for item in request.session.items if item.path.stem in ONCE
    )
