"""The README's table: the best other library of each row, and which is better."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches import machine, report
from benches.comparison import ROWS, compared, comparison_rows
from benches.contenders import OURS
from benches.measures import MEASURES
from benches.run import ROOT, Entry, Results

pytestmark = pytest.mark.benches

HERE = machine.Machine(
    "today", "abc1234", "a CPU", 2, 2**30, "Debian", "6.1", "CPython 3.11", {}, 0.1
)


def results(benchmark: str, **values: list[float]) -> Results:
    """Return a run of one benchmark: for each contender a value per round."""
    entries = [
        Entry(number, benchmark, name, value, {})
        for name, rounds in values.items()
        for number, value in enumerate(rounds)
    ]
    return Results(HERE, 3, 1.0, 0.0, entries)


def row(found: Results) -> list[str]:
    rows = comparison_rows(found)
    assert len(rows) == 2
    return rows[1]


def test_the_best_of_the_others_stands_beside_ours() -> None:
    found = results("submit", **{OURS: [1e6] * 3, "stdlib": [1e4] * 3, "mp_pool": [2e4] * 3})
    assert row(found)[1:] == ["1.00M/s", "-", "20.0k/s, mp.Pool", "-", "manyhands, 50.0×"]
    found = results("array", **{OURS: [0.01] * 3, "stdlib": [0.2] * 3, "joblib": [0.1] * 3})
    assert row(found)[1:] == ["10.0 ms", "-", "100 ms, joblib", "-", "manyhands, 10.0×"]


def test_another_that_is_better_is_named() -> None:
    found = results("cold", **{OURS: [0.03] * 3, "pebble": [0.005] * 3, "loky": [0.1] * 3})
    theirs, _, better = row(found)[3:]
    assert theirs == "5.00 ms, pebble (forks your program, threads and all)"
    assert better == "**pebble, 6.00×**"


def test_percentiles_and_the_spread_of_the_ratio_stand_beside_means() -> None:
    ours = [Entry(n, "event", OURS, 1e-6, {"p50": 9e-7, "p95": 2e-6, "p99": 3e-6}) for n in (0, 1)]
    theirs = [Entry(n, "event", "multiprocessing", (n + 1) * 1e-5, {}) for n in (0, 1)]
    found = Results(HERE, 2, 1.0, 0.0, [*ours, *theirs])
    assert row(found)[1:] == [
        "1.00 µs",
        "900 ns, 2.00 µs, 3.00 µs",
        "15.0 µs, mp.Event",
        "-",
        "manyhands, 15.0× (10.0 … 20.0)",
    ]


@pytest.mark.parametrize("ours", [[0.97, 0.98, 0.99], [0.7, 1.3, 1.4]])
def test_nobody_is_better_when_it_is_close_or_rounds_disagree(ours: list[float]) -> None:
    assert row(results("memory", **{OURS: ours, "mp_pool": [1.0] * 3}))[5] == "about even"


def test_a_benchmark_that_is_no_row_has_one_when_another_is_better() -> None:
    assert "lock_with" not in ROWS
    better = results("lock_with", **{OURS: [1.0] * 3, "multiprocessing": [2.0] * 3})
    assert len(comparison_rows(better)) == 1
    worse = results("lock_with", **{OURS: [2.0] * 3, "multiprocessing": [1.0] * 3})
    assert row(worse)[0] == MEASURES["lock_with"].title


def test_what_was_not_measured_has_no_row() -> None:
    assert compared(results("submit", **{OURS: [1.0]}), "submit") is None
    assert compared(results("submit", stdlib=[1.0]), "submit") is None
    failed = Results(HERE, 1, 1.0, 0.0, [Entry(0, "submit", OURS, None, {}, "gone")])
    assert len(comparison_rows(failed)) == 1


def test_every_row_is_a_benchmark() -> None:
    assert set(ROWS) <= set(MEASURES)


def test_the_readme_holds_what_was_recorded_and_nothing_else() -> None:
    recorded = Path(report.DOCS, "results.json")
    part = report.UNMEASURED
    if recorded.exists():
        part = report.readme_part(Results.from_json(recorded.read_text()))
    readme = Path(ROOT, "README.md").read_text()
    assert report.with_part(readme, part) == readme
