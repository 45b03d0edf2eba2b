"""The benchmark of ``workers="auto"``: what it computes, and one tiny real run."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from benches.auto import __main__ as command
from benches.auto.grid import Cell, Row
from benches.auto.workloads import WORKLOADS
from benches.load import busy

pytestmark = pytest.mark.benches


def cell(sequential: float, thread: float, process: float, auto: float, again: float) -> Cell:
    seconds = {"sequential": sequential, "thread": thread, "process": process, "auto": auto}
    return Cell(seconds, again, "thread: because")


def test_regret_is_by_the_best_of_the_same_round() -> None:
    row = Row("some", 1, [cell(4, 2, 3, 3, 2), cell(1, 2, 3, 1, 1.5), cell(9, 8, 4, 4.4, 4)])
    assert [each.best for each in row.cells] == ["thread", "sequential", "process"]
    assert row.regret == pytest.approx(1.1)
    assert row.noise == pytest.approx(1.0)
    assert row.seconds("thread") == 2


def test_a_table_says_how_much_of_the_grid_is_good() -> None:
    rows = [Row("one", 4, [cell(1, 2, 3, 1.2, 1)]), Row("other", 4, [cell(1, 2, 3, 1.3, 1)])]
    text = command.table(rows, 0.75)
    assert "4 more processes per CPU; in all, others had 75% of the CPUs" in text
    assert "regret at most 1.25: 50% of 2 workloads" in text
    assert "regret at most 1.25: 100% of 2 single rounds, had it always been right" in text


def test_words_choose_workloads() -> None:
    assert command.chosen(None) == list(WORKLOADS)
    assert command.chosen(["numpy"]) == ["NumPy: sort, FFT", "NumPy: array arguments"]
    assert len(WORKLOADS) >= 20
    assert command.main(["--only", "no such"]) == 2


@pytest.mark.parametrize("name", [name for name in WORKLOADS if not name.startswith("Pillow")])
def test_each_workload_can_be_done(name: str) -> None:
    if name.startswith("NumPy"):
        pytest.importorskip("numpy")
    with ExitStack() as stack:
        items = WORKLOADS[name].items(stack)
        assert len(items) >= 3
        assert WORKLOADS[name].function(items[-1]) is not None


def test_one_tiny_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--load", "0", "--rounds", "1", "--only", "little", "--json", str(tmp_path / "rows")]
    assert command.main(words) == 0
    assert "little work" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "rows").read_text())
    assert set(row["cells"][0]["seconds"]) == {"sequential", "thread", "process", "auto"}


def test_other_work_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def started(words: list[str]) -> subprocess.Popen[bytes]:
        begun.append(start(words))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", started)
    with busy(2):
        assert [each.poll() for each in begun] == [None, None]
    assert all(each.returncode is not None for each in begun)
