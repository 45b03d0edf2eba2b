"""`retry_on` goes by what a task raised, also if not all of that can be handed over.

Found by use, with `urllib.error.HTTPError`, which holds an open socket. In a process it was never
tried again, because an error that took its place was looked at; in a map it was.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import manyhands as mh


class Busy(ConnectionError):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("busy")
        self.lock = threading.Lock()


class Stop(BaseException):
    """Nor can this, and it is no `Exception`."""

    def __init__(self) -> None:
        super().__init__("stop")
        self.lock = threading.Lock()


def fail_twice(folder: Path, kind: type[BaseException]) -> str:
    """Raise it for the first two times."""
    attempts = len(list(folder.iterdir()))
    (folder / str(attempts)).touch()
    if attempts < 2:
        raise kind
    return "done"


@pytest.mark.parametrize("retry_on", [Busy, ConnectionError, (KeyError, OSError), Exception])
def test_what_cannot_be_pickled_is_tried_again(tmp_path: Path, retry_on: type[Exception]) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        stubborn = pool.options(retries=2, retry_on=retry_on)
        assert stubborn.submit(fail_twice, tmp_path, Busy).result() == "done"


@pytest.mark.parametrize("kind", [Busy, Stop])
@pytest.mark.parametrize("retry_on", [KeyError, mh.ManyhandsError])
def test_what_is_of_another_class_is_not(
    tmp_path: Path, kind: type[BaseException], retry_on: type[Exception]
) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        future = pool.options(retries=2, retry_on=retry_on).submit(fail_twice, tmp_path, kind)
        assert type(future.exception()) is kind
        assert len(list(tmp_path.iterdir())) == 1


def test_a_demand_to_stop_is_no_exception_to_try_again(tmp_path: Path) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        future = pool.options(retries=2).submit(fail_twice, tmp_path, Stop)
        assert type(future.exception()) is Stop
        assert len(list(tmp_path.iterdir())) == 1


def test_a_class_of_a_function_counts_by_its_base(tmp_path: Path) -> None:
    class Local(Busy):
        pass

    with mh.ProcessPoolExecutor(1) as pool:
        stubborn = pool.options(retries=2, retry_on=Busy)
        assert stubborn.submit(fail_twice, tmp_path, Local).result() == "done"
