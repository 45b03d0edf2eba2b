"""The screen of `manyhands top` under keys: scrolling, order, filter, pages; on any width."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

import manyhands as mh
from terminal import Terminal

DOWN, PAGE_DOWN, HOME, END, ESCAPE = b"\x1b[B", b"\x1b[6~", b"\x1b[H", b"\x1b[F", b"\x1b"
ESCAPES = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
LOCKS = 50


@pytest.fixture
def name() -> str:
    """Return a text by which the filter finds only this program's objects."""
    return f"t{uuid4().hex[:5]}"


@pytest.fixture
def locks(name: str) -> Iterator[list[mh.Lock]]:
    """Fifty named locks, every third of them held."""
    made = [mh.Lock(name=f"{name} {number:02}") for number in range(LOCKS)]
    held = made[::3]
    for lock in held:
        lock.acquire()
    yield made
    for lock in held:
        lock.release()


class Screen:
    """The screen of `manyhands top`, and what it shows of things with one name."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self.terminal = terminal
        self.name = name

    def lines(self) -> list[str]:
        """Return the last screen that has been drawn."""
        frame = self.terminal.written.rsplit("\x1b[H", 1)[-1]
        return [ESCAPES.sub("", line).rstrip("\r") for line in frame.split("\n")]

    def press(self, keys: bytes, pattern: str) -> list[str]:
        """Type `keys`; return the first screen after that in which `pattern` is found."""
        self.terminal.written = ""
        self.terminal.press(keys)
        # Whole screens only: the next one begins behind them.
        self.terminal.read_until(rf"(?s)\x1b\[H(?:(?!\x1b\[H).)*{pattern}.*\x1b\[H")
        frames = self.terminal.written.split("\x1b[H")[1:-1]
        found = next(frame for frame in frames if re.search(pattern, frame, re.DOTALL))
        return [ESCAPES.sub("", line).rstrip("\r") for line in found.split("\n")]

    def only_mine(self) -> list[str]:
        """Filter by the name."""
        self.press(b"/" + self.name.encode(), re.escape(f"/{self.name}"))
        return self.press(b"\r", re.escape(f"filter: {self.name}"))

    def numbers(self, lines: list[str]) -> list[int]:
        """Return the numbers of the locks that are shown, in their order."""
        found = (re.match(rf" +{self.name} (\d\d)", line) for line in lines)
        return [int(match[1]) for match in found if match]


def opened(columns: int, rows: int = 24) -> Terminal:
    return Terminal(columns, "top", "--interval", "0.3", rows=rows, NO_COLOR="1")


@pytest.mark.usefixtures("locks")
@pytest.mark.parametrize("columns", [40, 50, 80, 120])
def test_fifty_objects_are_read_by_scrolling(columns: int, name: str) -> None:
    with opened(columns) as terminal:
        terminal.read_until("OBJECTS")
        screen = Screen(terminal, name)
        lines = screen.only_mine()
        assert any(re.search(r"and \d+ more", line) for line in lines)
        seen = screen.numbers(lines)
        for page in range(1, 10):
            lines = screen.press(PAGE_DOWN, "↑↓ ") if page < 9 else screen.press(END, "↑↓ ")
            assert len(lines) == 24
            assert max(map(len, lines)) <= columns
            assert lines[1].startswith("OBJECTS"), "titles stay in sight"
            seen += screen.numbers(lines)
            held = [line for line in lines if re.search(rf"{name} \d\d .*held", line)]
            assert all("python" in line or "pytest" in line or "…" in line for line in held)
            if LOCKS - 1 in seen:
                break
        assert set(seen) == set(range(LOCKS))
        lines = screen.press(HOME, "↑↓ scroll")
        assert any(re.search(r"and \d+ more", line) for line in lines)


@pytest.mark.usefixtures("locks")
def test_rows_are_sorted_as_asked_for(name: str) -> None:
    with opened(80, rows=60) as terminal:
        terminal.read_until("OBJECTS")
        screen = Screen(terminal, name)
        held_first = screen.numbers(screen.only_mine())
        assert held_first[:3] == [0, 3, 6]
        by_name = screen.numbers(screen.press(b"s", "sort: name"))
        assert by_name == list(range(LOCKS))
        screen.press(b"s", "sort: kind")
        screen.press(b"s", "sort: size")
        assert screen.numbers(screen.press(b"s", "sort: waiting")) == held_first


@pytest.mark.usefixtures("locks")
def test_a_filter_leaves_what_has_it_and_goes_again(name: str) -> None:
    with opened(80) as terminal:
        terminal.read_until("OBJECTS")
        screen = Screen(terminal, name)
        typed = f"{name} 07"
        lines = screen.press(b"/" + typed.upper().encode(), re.escape(f"/{typed.upper()}_"))
        assert screen.numbers(lines) == [7]
        lines = screen.press(b"\x7f", re.escape(f"/{typed.upper()[:-1]}_"))
        assert set(screen.numbers(lines)) <= set(range(10))
        assert len(screen.numbers(lines)) == 10
        lines = screen.press(b"zzz\r", "filter: .*zzz")
        assert any("Nothing matches the filter." in line for line in lines)
        # q is a letter while a filter is typed, and a key before and after.
        screen.press(b"/q", "zzzq_")
        screen.press(ESCAPE, "/ filter ")
        terminal.press(b"q")
        assert terminal.end() == 0


@pytest.mark.parametrize("columns", [40, 50, 80, 120])
def test_a_pool_has_a_page_with_its_workers(columns: int, name: str) -> None:
    def burn() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            pass

    with mh.ProcessPoolExecutor(2, grace=0) as pool, opened(columns) as terminal:
        future = pool.options(name=name).submit(burn)
        mh.wait([pool.submit(time.sleep, 0.2) for _ in range(2)], timeout=20)
        pids = {worker["pid"]: worker["task"] for worker in pool.statistics()["workers"]}
        (busy,) = [pid for pid, task in pids.items() if task == name]
        screen = Screen(terminal, name)
        terminal.read_until("POOLS")
        # Other tests have pools, too: this one is found by its task.
        screen.only_mine()
        screen.press(b"p", "WORKERS")
        lines = screen.press(b"x", rf"{busy} +{name} +(\d[\d.]* s +)?[1-9]\d* %")
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith("pool of ")
        (row,) = [line for line in lines if re.match(rf" {busy} ", line)]
        assert re.search(r"\d+ (MB|kB)$", row)
        assert bool(re.search(r"\d s +[1-9]", row)) == (columns >= 48)
        # Without the filter the other worker is there, too, and idle.
        screen.press(b"/", "Esc: clear")
        lines = screen.press(ESCAPE, "\u2013")
        assert sum(line.startswith(tuple(f" {pid} " for pid in pids)) for line in lines) == 2
        lines = screen.press(ESCAPE, "POOLS")
        assert lines[0].startswith("manyhands top")
        future.cancel()


def test_a_pool_that_goes_takes_its_page_along(name: str) -> None:
    pool = mh.ProcessPoolExecutor(1, grace=0)
    pool.options(name=name).submit(time.sleep, 60)
    with opened(80) as terminal:
        terminal.read_until("POOLS")
        screen = Screen(terminal, name)
        # Other tests have pools, too, which go when they like: this one is found by its task.
        screen.only_mine()
        screen.press(b"p", "WORKERS")
        pool.terminate()
        screen.press(b"x", "manyhands top")
