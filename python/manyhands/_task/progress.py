"""Progress of a map: a bar in a terminal or notebook, plain lines in a log, or the user's callback.

>>> mh.map(work, items, progress=True)                # a bar named after the function
>>> mh.map(work, items, progress="reading")           # a bar with this label
>>> mh.map(work, items, progress=lambda done, total: print(done, total))
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TextIO, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Progress", "ProgressOption", "label_of", "open_progress"]

# True and a label mean a bar; a callable gets (items done, items in all or None).
ProgressOption: TypeAlias = bool | str | Callable[[int, int | None], object] | None

# A bar is redrawn at most this often, in seconds.
_BAR_INTERVAL: Final = 0.1
# A log is given a line at most this often, in seconds.
_LINE_INTERVAL: Final = 5.0
_BAR_WIDTH: Final = 30
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


class _View(Protocol):
    """Where progress is shown."""

    interval: float

    def show(self, state: State) -> None: ...

    def close(self, state: State) -> None: ...


class State:
    """How far a map has come.

    Attributes:
        label: what is being done.
        done: items that are done.
        total: items in all, or None if the input does not say.
    """

    def __init__(self, label: str, total: int | None) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self._began = monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return monotonic() - self._began

    @property
    def share(self) -> float:
        """What part is done, from 0 to 1; 0 if the total is not known."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def figures(self) -> str:
        """Return counts, rate and times, for example ``45/100 · 9.0/s · 5 s, 6 s left``."""
        seconds = self.seconds
        count = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        rate = self.done / seconds if seconds > 0 else 0.0
        text = f"{count} · {_rate(rate)}/s · {_duration(seconds)}"
        if self.total is not None and 0 < self.done < self.total:
            text += f", {_duration((self.total - self.done) / rate)} left"
        return text


class _Terminal:
    """One line that is drawn over and over."""

    interval = _BAR_INTERVAL

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, state: State) -> None:
        self._draw(state, "")

    def close(self, state: State) -> None:
        self._draw(state, "\n")

    def _draw(self, state: State, end: str) -> None:
        # Imported here, since a program's first pool would start later.
        from shutil import get_terminal_size

        columns = get_terminal_size().columns - 1
        line = f"{state.label} {_bar(state)} {state.figures()}"
        if len(line) > columns:
            line = f"{state.label} {state.figures()}"[:columns]
        # Erase to the end of the line: the new text may be shorter than the old one.
        self._stream.write(f"\r{line}\x1b[K{end}")
        self._stream.flush()


class _Lines:
    """A line now and then, for a stream that is no terminal."""

    interval = _LINE_INTERVAL

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, state: State) -> None:
        percent = f" {state.share:.0%}" if state.total else ""
        self._stream.write(f"{state.label}:{percent} {state.figures()}\n")
        self._stream.flush()

    def close(self, state: State) -> None:
        self.show(state)


class _Notebook:
    """A bar in the output cell of a notebook."""

    interval = _BAR_INTERVAL

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def close(self, state: State) -> None:
        self.show(state)

    def show(self, state: State) -> None:
        from html import escape

        picture = _Markup(
            f'{escape(state.label)} <progress max="1" value="{state.share:.3f}"></progress> '
            f"{escape(state.figures())}",
            f"{state.label} {_bar(state)} {state.figures()}",
        )
        if self._handle is None:
            self._handle = self._display(picture, display_id=True)
        else:
            self._handle.update(picture)


class _Markup:
    """What IPython displays: as HTML where it can, else as text."""

    def __init__(self, html: str, text: str) -> None:
        self._html = html
        self._text = text

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


class _Callback:
    """The user's own function."""

    interval = 0.0

    def __init__(self, function: Callable[[int, int | None], object]) -> None:
        self._function = function

    def show(self, state: State) -> None:
        self._function(state.done, state.total)

    def close(self, state: State) -> None:
        """Do nothing: the last item has been reported already."""


class Progress:
    """Counts items and shows the count from time to time; a context manager.

    Args:
        view: where to show it, or None for nowhere.
        label: what is being done.
        total: items in all, or None if not known.
    """

    def __init__(self, view: _View | None, label: str, total: int | None) -> None:
        self._view = view
        self._state = State(label, total)
        self._due = monotonic() + (view.interval if view else 0.0)

    def is_shown(self) -> bool:
        """Say whether there is anybody to see it."""
        return self._view is not None

    def advance(self, items: int) -> None:
        """Count `items` more as done."""
        self._state.done += items
        if self._view is not None and items:
            now = monotonic()
            if now >= self._due:
                self._due = now + self._view.interval
                self._view.show(self._state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Show the last state; may be called again without effect."""
        view, self._view = self._view, None
        if view is not None:
            view.close(self._state)


def open_progress(option: ProgressOption, label: str, total: int | None) -> Progress:
    """Return a `Progress` for what the user passed as ``progress=``.

    Args:
        option: None or False for none, True for a bar, a string for a bar with that label, or a
            callable that gets ``(done, total)``; total is None if it is not known.
        label: what the bar is called if the user did not say.
        total: how many items there are, or None.

    Raises:
        TypeError: `option` is something else.
    """
    if option is None or option is False:
        return Progress(None, label, total)
    if callable(option):
        return Progress(_Callback(option), label, total)
    if option is True or isinstance(option, str):
        return Progress(_view(), option if isinstance(option, str) else label, total)
    raise TypeError(
        f"progress must be True, a label or a callable, not {type(option).__name__}",
    )


def label_of(fn: Callable[..., Any]) -> str:
    """Return what a map of `fn` is called if the user does not say."""
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


def _view() -> _View | None:
    display = _notebook_display()
    if display is not None:
        return _Notebook(display)
    stream = sys.stderr
    if stream is None:
        return None
    return _Terminal(stream) if stream.isatty() else _Lines(stream)


def _notebook_display() -> Callable[..., Any] | None:
    # Only a program that runs inside IPython has it loaded; a kernel, unlike IPython's own
    # terminal, can display markup.
    if "IPython" not in sys.modules:
        return None
    shell = sys.modules["IPython"].get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from importlib import import_module

    display: Callable[..., Any] = import_module("IPython.display").display
    return display


def _bar(state: State) -> str:
    if not state.total:
        return "…"
    eighths = round(state.share * _BAR_WIDTH * 8)
    full, part = divmod(eighths, 8)
    bar = "█" * full + (_EIGHTHS[part] if part else "")
    return f"[{bar:<{_BAR_WIDTH}}] {state.share:4.0%}"


def _rate(rate: float) -> str:
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
