"""Every example runs, and says nothing on stderr but its progress."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rules import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# A line of its output that shows that it did its work.
SAYS = {
    "busy_machine": "an item there and back",
    "bounded_resource": "40 rows by 8 workers, at most 2 connected",
    "producer_consumer": "1500 orders, the sum is 1124250",
    "rounds": "1000.0 in all, 48.77 in the middle",
    "async_service": "24 answers, the last one is 121393",
    "dinosaurs": "360 answers over 20 connections",
    "endless": "10000000019",
    "fetch_pages": "100 pages of 1490 bytes",
    "fragile": "task 9 is done",
    "mandelbrot": "@@@@@",
    "word_count": "most frequent: ",
}
# One program for all of these, by one word.
SAME = "the same program with another kind of worker, which the tests of executors compare on each"
KINDS = {
    stem: ["process", "thread", "coroutine"]
    for stem in ("bounded_resource", "producer_consumer", "rounds")
}
RUNS = [
    pytest.param(path, word, marks=pytest.mark.once(SAME) if number else ())
    for path in EXAMPLES
    for number, word in enumerate(KINDS.get(path.stem, [""]))
]


@pytest.mark.parametrize(("path", "word"), RUNS, ids=lambda each: getattr(each, "stem", each))
def test_example(path: Path, word: str) -> None:
    command = [sys.executable, "-W", "error", str(path), *word.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert SAYS[path.stem] in done.stdout
    assert all(line.startswith("counting") for line in done.stderr.splitlines()), done.stderr


@pytest.mark.once("it compares a word with three others")
@pytest.mark.parametrize("stem", KINDS)
def test_a_wrong_word(stem: str) -> None:
    (path,) = (path for path in EXAMPLES if path.stem == stem)
    command = [sys.executable, str(path), "fibre"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert done.stderr == f"usage: python {path} [process | thread | coroutine]\n"


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAYS)
