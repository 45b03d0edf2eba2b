"""Progress: bars, lines, callbacks, notebooks."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

import manyhands as mh
from manyhands._task import progress as _progress
from manyhands._task.progress import State, open_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def give_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Have stderr be a terminal; not a fixture, for pytest sets stderr after those."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "100")
    return stream


@pytest.fixture
def every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has every advance shown, however quick they follow one another."""
    for view in (_progress._Terminal, _progress._Lines, _progress._Notebook):
        monkeypatch.setattr(view, "interval", 0.0)


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, every_time: None) -> None:
    terminal = give_terminal(monkeypatch)
    with open_progress(True, "reading", 4) as progress:
        progress.advance(1)
        progress.advance(3)
    drawn = terminal.getvalue().split("\r")
    assert drawn[1].startswith("reading [███████▌" + " " * 22 + "]  25% 1/4 · ")
    assert drawn[-1].startswith("reading [" + "█" * 30 + "] 100% 4/4 · ")
    assert drawn[-1].endswith("\n")
    assert all("\n" not in each for each in drawn[:-1])
    assert all(len(each.rstrip("\n").removesuffix("\x1b[K")) < 100 for each in drawn)


def test_a_narrow_terminal_gets_no_broken_bar(
    monkeypatch: pytest.MonkeyPatch, every_time: None
) -> None:
    terminal = give_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "30")
    with open_progress(True, "reading", 4) as progress:
        progress.advance(2)
    for each in terminal.getvalue().split("\r"):
        assert len(each.rstrip("\n").removesuffix("\x1b[K")) < 30
        assert "█" not in each


def test_a_bar_without_a_total_counts(monkeypatch: pytest.MonkeyPatch, every_time: None) -> None:
    terminal = give_terminal(monkeypatch)
    with open_progress("endless", "work", None) as progress:
        progress.advance(1234)
    assert "endless … 1,234 · " in terminal.getvalue()


def test_a_bar_is_not_drawn_more_often_than_eyes_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = give_terminal(monkeypatch)
    with open_progress(True, "work", 10_000) as progress:
        for _ in range(10_000):
            progress.advance(1)
    assert terminal.getvalue().count("\r") < 100


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch, every_time: None) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with open_progress("work", "", 2) as progress:
        progress.advance(1)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("work: 50% 1/2 · ")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_a_log_gets_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with open_progress("work", "", 1000) as progress:
        for _ in range(1000):
            progress.advance(1)
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().startswith("work: 100% 1,000/1,000 · ")


def test_no_stderr_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with open_progress(True, "work", 2) as progress:
        progress.advance(2)


def test_a_notebook_gets_one_picture_that_changes(
    monkeypatch: pytest.MonkeyPatch, every_time: None
) -> None:
    shown: list[Any] = []
    handle = SimpleNamespace(update=lambda picture: shown.append(picture))

    def display(picture: Any, display_id: bool) -> Any:
        assert display_id
        shown.append(picture)
        return handle

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    with open_progress("a < b", "", 2) as progress:
        progress.advance(1)
        progress.advance(1)
    assert len(shown) == 3
    assert "a &lt; b" in shown[0]._repr_html_()
    assert 'value="0.500"' in shown[0]._repr_html_()
    assert 'value="1.000"' in shown[-1]._repr_html_()
    assert repr(shown[0]).startswith("a < b [")


def test_ipython_in_a_terminal_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = give_terminal(monkeypatch)
    shell = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with open_progress(True, "work", 1) as progress:
        progress.advance(1)
    assert terminal.getvalue().startswith("\rwork [")


def test_nonsense_is_refused() -> None:
    with pytest.raises(TypeError, match="progress must be True, a label or a callable, not int"):
        open_progress(3, "work", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [None, False])
def test_nothing_is_shown_unless_asked_for(option: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = give_terminal(monkeypatch)
    with open_progress(option, "work", 1) as progress:
        progress.advance(1)
    assert terminal.getvalue() == ""


def test_figures_say_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_progress, "monotonic", lambda: now)
    state = State("work", 1000)
    assert state.figures() == "0/1,000 · 0.0/s · 0.0 s"
    now += 20
    state.done = 250
    assert state.figures() == "250/1,000 · 12.5/s · 20 s, 1 min 00 s left"
    now += 7200
    state.done = 1000
    assert state.figures() == "1,000/1,000 · 0.1/s · 2 h 00 min"


@pytest.mark.parametrize("workers", ["auto", "thread", "process"])
def test_a_callback_hears_of_every_item(workers: Any) -> None:
    heard: list[tuple[int, int | None]] = []
    mh.map(abs, range(1000), workers=workers, progress=lambda *each: heard.append(each))
    assert heard == sorted(heard)
    assert heard[-1] == (1000, 1000)


def test_imap_tells_progress_as_results_are_taken() -> None:
    heard: list[tuple[int, int | None]] = []
    numbers = (each for each in range(10))
    results = mh.imap(abs, numbers, workers="thread", progress=lambda *each: heard.append(each))
    assert heard == []
    next(results)
    assert heard == [(1, None)]
    assert len(list(results)) == 9
    assert heard[-1] == (10, None)


def test_a_callback_that_fails_ends_the_map() -> None:
    def refuse(done: int, total: int | None) -> None:
        raise RuntimeError(f"{done} of {total}")

    with pytest.raises(RuntimeError, match="of 1000"):
        mh.map(abs, range(1000), workers="thread", progress=refuse)


def test_a_map_that_fails_leaves_the_bar_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = give_terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        mh.map(lambda number: 1 // number, [1, 0], workers="thread", progress=True)
    assert terminal.getvalue().endswith("\n")
    assert "100%" not in terminal.getvalue()
