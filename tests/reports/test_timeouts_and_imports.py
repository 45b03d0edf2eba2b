"""A task's timeout counts its run, not the import of its function's module.

Found by rivals' suites (pebble): in a new worker the import of a heavy module counted, so that a
short timeout killed that worker, the next one imported again, and retries never came to an end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import manyhands as mh

HEAVY = """
import time
time.sleep(0.7)  # as importing pandas does

class Argument:
    pass

def quick(argument=None):
    return "done"

def slow():
    time.sleep(60)
"""


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (tmp_path / "heavy_to_import.py").write_text(HEAVY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "heavy_to_import", raising=False)
    return __import__("heavy_to_import")


@pytest.mark.parametrize("what", ["function", "argument", "map"])
def test_the_import_does_not_count(heavy: object, what: str) -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        timed = pool.options(timeout=0.3)
        if what == "function":
            assert timed.submit(heavy.quick).result(30) == "done"  # type: ignore[attr-defined]
        elif what == "argument":
            assert timed.submit(id, heavy.Argument()).result(30)  # type: ignore[attr-defined]
        else:
            found = list(timed.map(heavy.quick, [1, 2]))  # type: ignore[attr-defined]
            assert found == ["done", "done"]
        assert pool.statistics()["retried"] == 0


def test_the_run_after_the_import_does(heavy: object) -> None:
    with mh.ProcessPoolExecutor(1, grace=0.1) as pool:
        future = pool.options(timeout=0.3).submit(heavy.slow)  # type: ignore[attr-defined]
        assert isinstance(future.exception(30), mh.TaskTimeout)
