"""Every example runs, and says nothing on stderr but its progress."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from manyhands._cluster.rabbitmq_node import NOT_INSTALLED, find_server
from rules import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

# A line of its output that shows that it did its work.
SAYS = {
    "busy_machine": "an item there and back",
    "bounded_resource": "40 rows by 8 workers, at most 2 connected",
    "producer_consumer": "1500 orders, the sum is 1124250",
    "rounds": "1000.0 in all, 48.77 in the middle",
    "async_service": "24 answers, the last one is 121393",
    "dinosaurs": "messages: 7200 answers over 80 connections",
    "dinosaurs_web": "Triceratops: 8.5 m, Late Cretaceous",
    "endless": "10000000019",
    "fetch_pages": "100 pages of 1490 bytes",
    "fleet": "871 takes 178 steps",
    "fragile": "task 9 is done",
    "mandelbrot": "@@@@@",
    "order_desk": "1000 orders, 332833500 in all",
    "word_count": "most frequent: ",
}
# One program for all of these, by one word.
SAME = "the same program with another kind of worker, which the tests of executors compare on each"
KINDS = {
    "bounded_resource": ["process", "thread", "coroutine"],
    "dinosaurs": ["process", "thread", "coroutine", "greenlet"],
    "producer_consumer": ["process", "thread", "coroutine"],
    "rounds": ["process", "thread", "coroutine"],
    "order_desk": ["thread", "greenlet"],
}
# What its reader runs in another terminal meanwhile, and what that says when it is there.
BESIDE = {"fleet": (["worker", "fleet", "--dev", "--workers", "process:2"], "consumes")}
RUNS = [
    pytest.param(path, word, marks=pytest.mark.once(SAME) if number else ())
    for path in EXAMPLES
    for number, word in enumerate(KINDS.get(path.stem, [""]))
]


@contextmanager
def another_terminal(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run what the example needs beside it, in its folder, until the example is done."""
    if path.stem not in BESIDE:
        yield
        return
    if find_server() is None:
        pytest.skip(NOT_INSTALLED)
    words, ready = BESIDE[path.stem]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "manyhands", *words],
        cwd=path.parent,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert any(ready in line for line in process.stderr), "it has ended"
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize(("path", "word"), RUNS, ids=lambda each: getattr(each, "stem", each))
def test_example(path: Path, word: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(path), *word.split()]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    environment.pop("AMQP_URL", None)
    with another_terminal(path, environment):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=50, check=False, env=environment
        )
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
    assert done.stderr == f"usage: python {path} [{' | '.join(KINDS[stem])}]\n"


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAYS)
