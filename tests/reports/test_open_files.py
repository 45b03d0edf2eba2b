"""Open text files that are handed to a worker, a queue or a pipe: refused, and never touched.

Reports: dill#493, dill#494, pmx#35. A copy of a temporary file deleted the original.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh


class Report:
    def __init__(self, file: Any) -> None:
        self.file = file


def touch(_: object) -> str:
    return "seen"


def into_queue(file: Any) -> None:
    mh.Queue().put(file)


def into_pipe(file: Any) -> None:
    with mh.Pipe()[0] as end:
        end.send(file)


def to_worker(
    make: Callable[[Any], Callable[[mh.ProcessPoolExecutor], Any]],
) -> Callable[[Any], None]:
    def hand_over(file: Any) -> None:
        with mh.ProcessPoolExecutor(1) as pool:
            make(file)(pool)

    return hand_over


WAYS: dict[str, Callable[[Any], None]] = {
    "argument": to_worker(lambda file: lambda pool: pool.submit(touch, file).result()),
    "attribute": to_worker(lambda file: lambda pool: pool.submit(touch, Report(file)).result()),
    "closure": to_worker(lambda file: lambda pool: pool.submit(lambda: file.name).result()),
    "method": to_worker(lambda file: lambda pool: pool.submit(file.write, "x").result()),
    "item": to_worker(lambda file: lambda pool: list(pool.map(touch, [file]))),
    "queue": into_queue,
    "pipe": into_pipe,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["w+", "r"])
def test_a_temporary_file_is_refused_and_stays(way: str, mode: str) -> None:
    with tempfile.NamedTemporaryFile(mode) as file:
        with pytest.raises(
            TypeError, match=r"cannot pickle '_?TextIOWrapper' object.*pass its path"
        ):
            WAYS[way](file)
        assert Path(file.name).exists()


def test_a_file_open_for_writing_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "notes").open("w") as file, pytest.raises(TypeError, match="pass its path"):
        into_queue(file)


def test_a_standard_stream_is_the_receivers_own() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(lambda stream: stream is sys.stderr, sys.stderr).result()
        assert pool.submit(lambda stream: stream is sys.stdout, sys.stdout).result()
