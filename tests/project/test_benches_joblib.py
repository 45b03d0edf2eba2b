"""The benchmarks of joblib's backends: that each is driven, and that a wrong answer is noticed."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from benches import run, work
from benches.contenders import contender, of_group
from benches.measure import WrongResult
from benches.measures import MEASURES

pytestmark = pytest.mark.benches

pytest.importorskip("joblib")
pytest.importorskip("numpy")


@pytest.mark.parametrize("name", of_group("joblib"))
def test_an_array_reaches_the_tasks_of_every_backend(name: str) -> None:
    entry = run.taken(0, "joblib_array", name, 0.01)
    assert entry.error is None
    assert entry.value is not None
    assert entry.value > 0


@pytest.mark.parametrize("name", of_group("joblib"))
def test_a_grid_search_ends_on_every_backend(name: str) -> None:
    if importlib.util.find_spec("sklearn") is None:  # importing it here would start threads
        pytest.skip("scikit-learn is not installed")
    assert run.taken(0, "grid_search", name, 0.01).error is None


def test_an_array_of_yesterday_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "sum_of_part", lambda array, begin, end: float(end - begin))
    library: Any = contender("loky", "joblib")
    monkeypatch.setattr(library, "backend", "sequential")
    with pytest.raises(WrongResult, match="another array"):
        MEASURES["joblib_array"].sample(library, 0.01)
