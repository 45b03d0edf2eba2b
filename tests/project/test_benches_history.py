"""The history of whole runs: a line each, and what has become slower."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benches import history, machine
from benches.contenders import OURS
from benches.run import Entry, Results

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.benches


HERE = machine.Machine("2026-11-20 08:00 UTC", "a1", "a CPU", 2, 2**30, "D", "6", "3.11", {}, 0.1)


def run_of(day: int, ours: float, death: float = 1e-3) -> Results:
    """Return a run in which mp.Pool does 1,000 tasks a second."""
    entries = [
        Entry(0, "submit", OURS, ours, {}),
        Entry(0, "submit", "mp_pool", 1000.0, {}),
        Entry(0, "owner_death", OURS, death, {}),
    ]
    there = replace(HERE, date=f"2026-12-{day:02} 08:00 UTC", commit=f"c{day}")
    return Results(there, 1, 1.0, 0.0, entries)


def lines_of(*runs: Results) -> list[history.Line]:
    return [history.Line.of(run) for run in runs]


def test_each_run_is_one_line_and_the_same_run_no_second_one(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    assert history.read(file) == []
    for run in (run_of(1, 5e4), run_of(2, 6e4), run_of(2, 6e4)):
        lines = history.add(file, run)
    assert len(file.read_text().splitlines()) == 2
    assert history.read(file) == lines
    assert lines[1].commit == "c2"
    assert lines[1].ratios == {"submit": 60.0}
    assert lines[1].values == {"submit": 6e4, "owner_death": 1e-3}


def test_what_is_worse_than_usual_and_than_ever_is_told() -> None:
    before = [run_of(1, 50e3), run_of(2, 60e3), run_of(3, 55e3)]
    assert history.slower(lines_of(*before, run_of(4, 45e3))) == {}
    assert history.slower(lines_of(*before, run_of(4, 40e3))) == {
        "submit": "1.38× worse than usual"
    }
    # No rival: the value itself.
    assert history.slower(lines_of(*before, run_of(4, 55e3, 2e-3))) == {
        "owner_death": "2.00× worse than usual"
    }


def test_one_bad_run_before_is_no_excuse_and_no_alarm() -> None:
    before = [run_of(1, 50e3), run_of(2, 10e3), run_of(3, 50e3)]
    assert history.slower(lines_of(*before, run_of(4, 20e3))) == {}
    assert history.slower(lines_of(*before, run_of(4, 9e3))) != {}


def test_runs_on_other_machines_are_not_compared() -> None:
    big = run_of(1, 500e3)
    big = replace(big, machine=replace(big.machine, cpus=64))
    lines = lines_of(big, run_of(2, 50e3))
    assert history.slower(lines) == {}
    assert history.rows(lines)[0] == ["benchmark", "2026-12-02 c2", ""]


def test_the_table_shows_the_newest_runs_last() -> None:
    found = history.rows(lines_of(*(run_of(day, day * 1e4) for day in range(1, 8)), run_of(8, 5e3)))
    assert found[0][1:] == [*(f"2026-12-{day:02} c{day}" for day in range(4, 9)), ""]
    assert found[1] == [
        "submit",
        "40.0×",
        "50.0×",
        "60.0×",
        "70.0×",
        "5.00×",
        "8.00× worse than usual",
    ]
    assert found[2] == ["owner_death", *["1.00 ms"] * 5, ""]


def test_the_command_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benches import __main__ as command

    assert command.main(["--history", "--output", str(tmp_path)]) == 0
    assert "no whole run" in capsys.readouterr().out
    history.add(tmp_path / "history.jsonl", run_of(1, 5e4))
    assert command.main(["--history", "--output", str(tmp_path)]) == 0
    assert "| submit      | 50.0×" in capsys.readouterr().out
