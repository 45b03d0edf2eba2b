"""The charts of three ways to serve: one tiny real run, and that the page has what was measured."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest

from benches.ways import __main__ as command
from benches.ways.look_ups import ANSWER, KINDS, REQUEST, closest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.benches

with contextlib.suppress(ImportError):
    import matplotlib.backends.backend_svg  # noqa: F401 - its threads start before a test begins


@pytest.fixture(scope="module")
def chart() -> str:
    """Draw what was measured. matplotlib keeps the files of its fonts open from now on."""
    return command.drawn(json.loads((command.FOLDER / "ways.json").read_text())["rates"])


def test_the_closest_name_is_found() -> None:
    assert closest(REQUEST[:-1]) + b"\n" == ANSWER


def test_a_run_measures_each_kind_of_worker_and_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chart: str
) -> None:
    page = tmp_path / "ways.md"
    page.write_text("before\n{}\nold\n{}\nafter\n".format(*command.MARKS))
    for name, value in {
        "FOLDER": tmp_path,
        "CLIENTS": (1, 2),
        "SHOWN": (2,),
        "ROUNDS": 2,
        "LOAD_S": 0.1,
    }.items():
        monkeypatch.setattr(command, name, value)
    command.main([])
    rates = json.loads((tmp_path / "ways.json").read_text())["rates"]
    for work in command.WORK:
        assert list(rates[work]) == list(KINDS)
        assert all(len(found) == 2 for each in rates[work].values() for found in each.values())
    assert [line.split(" | ")[0] for line in page.read_text().splitlines() if "×" in line] == [
        "| threads   ",
        "| processes ",
        "| coroutines",
        "| greenlets ",
    ]
    assert "old" not in page.read_text()
    new = (tmp_path / "ways.svg").read_text()
    assert new != chart
    (tmp_path / "ways.svg").unlink()
    command.main(["--render"])
    assert (tmp_path / "ways.svg").read_text() == new


def test_the_page_shows_what_was_measured(chart: str) -> None:
    found = json.loads((command.FOLDER / "ways.json").read_text())
    assert (command.FOLDER / "ways.svg").read_text() == chart
    page = (command.FOLDER / "ways.md").read_text()
    assert "](ways.svg)" in page
    assert command.table(found) in page
