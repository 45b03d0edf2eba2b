"""What workers print, log and warn about, as the parent shows it."""

from __future__ import annotations

import io
import logging
import os
import pickle
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands._pool.forward import LONGEST_LINE, Forwarder
from manyhands._worker import reports

# Output


def shown(
    *pieces: tuple[int, bytes], prefix: str | None = None, ended: tuple[int, ...] = ()
) -> str:
    """Return what stands on standard output after these workers have written these pieces."""
    target = io.StringIO()
    forwarder = Forwarder(prefix)
    with redirect_stdout(target):
        for participant, data in pieces:
            forwarder.output(participant, 1000 + participant, "stdout", data)
        for participant in ended:
            forwarder.ended(participant)
    return target.getvalue()


def test_a_line_is_shown_when_it_is_complete() -> None:
    assert shown((1, b"half a li")) == ""
    assert shown((1, b"half a li"), (1, b"ne\nand ")) == "half a line\n"
    assert shown((1, b"a\nb\nc")) == "a\nb\n"


def test_lines_of_workers_are_never_mixed() -> None:
    assert shown((1, b"on"), (2, b"two\n"), (1, b"e\n")) == "two\none\n"


def test_what_a_worker_leaves_unfinished_is_shown_when_it_ends() -> None:
    assert shown((1, b"last words"), (2, b"x"), ended=(1, 3)) == "last words\n"
    assert shown((1, b"done\n"), ended=(1,)) == "done\n"


def test_a_number_used_again_starts_afresh() -> None:
    target = io.StringIO()
    forwarder = Forwarder("{pid}: ")
    with redirect_stdout(target):
        forwarder.output(1, 11, "stdout", b"old")
        forwarder.ended(1)
        forwarder.output(1, 12, "stdout", b"new\n")
    assert target.getvalue() == "11: old\n12: new\n"


def test_prefix_stands_before_every_line() -> None:
    text = shown((3, b"a\n\nb\rc\x0cd\n"), (3, b"e"), (3, b"\n"), prefix="[worker-{worker}] ")
    assert text == "[worker-3] a\n[worker-3] \n[worker-3] b\rc\x0cd\n[worker-3] e\n"


def test_streams_are_kept_apart() -> None:
    out, err = io.StringIO(), io.StringIO()
    forwarder = Forwarder()
    with redirect_stdout(out), redirect_stderr(err):
        forwarder.output(1, 1, "stdout", b"out")
        forwarder.output(1, 1, "stderr", b"err\n")
        forwarder.output(1, 1, "stdout", b"put\n")
    assert (out.getvalue(), err.getvalue()) == ("output\n", "err\n")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.text(st.sampled_from("ab\né✋\r"), max_size=12))),
    st.randoms(use_true_random=False),
)
def test_every_workers_text_comes_out_whole_and_in_order(
    writes: list[tuple[int, str]], random: Any
) -> None:
    expected = dict.fromkeys(range(3), "")
    pieces: list[tuple[int, bytes]] = []
    for worker, text in writes:
        expected[worker] += text
        data = text.encode()
        while data:  # cut anywhere, also within a character
            length = random.randint(1, len(data))
            pieces.append((worker, data[:length]))
            data = data[length:]
    result = shown(*pieces, prefix="{worker}|", ended=(0, 1, 2))
    lines = result.split("\n")
    assert lines.pop() == ""
    for worker, text in expected.items():
        own = [line[2:] for line in lines if line.startswith(f"{worker}|")]
        wanted = text.split("\n")
        if wanted[-1] == "":
            wanted.pop()
        assert own == wanted


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert shown((1, b"caf\xe9\n")) == "caf\\xe9\n"
    assert shown((1, b"\xe2\x9c"), ended=(1,)) == "\\xe2\\x9c\n"


def test_an_endless_line_does_not_fill_the_memory() -> None:
    piece = b"x" * (LONGEST_LINE // 2 + 1)
    assert shown((1, piece)) == ""
    assert len(shown((1, piece), (1, piece))) == 2 * len(piece)
    # It goes on where it has stopped, but another worker's line starts on a line of its own.
    text = shown((1, piece), (1, piece), (1, b"end\n"), (2, b"other\n"), prefix="{worker}|")
    assert text == "1|" + "x" * 2 * len(piece) + "end\n2|other\n"
    text = shown((1, piece), (1, piece), (2, b"other\n"), (1, b"end\n"), prefix="{worker}|")
    assert text == "1|" + "x" * 2 * len(piece) + "\n2|other\nend\n"
    text = shown((1, piece), (1, piece), ended=(1,))
    assert text == "x" * 2 * len(piece) + "\n"


class Broken(io.StringIO):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str, /) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError(32, "Broken pipe"), ValueError("closed"), SystemExit(1), AttributeError("x")]
)
def test_a_broken_stream_harms_nobody(error: BaseException) -> None:
    forwarder = Forwarder()
    with redirect_stdout(Broken(error)):
        forwarder.output(1, 1, "stdout", b"lost\n")
    target = io.StringIO()
    with redirect_stdout(target):
        forwarder.output(1, 1, "stdout", b"seen\n")
    assert target.getvalue() == "seen\n"


def test_missing_and_closed_streams_harm_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    forwarder = Forwarder()
    monkeypatch.setattr(sys, "stdout", None)
    forwarder.output(1, 1, "stdout", b"lost\n")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    forwarder.output(1, 1, "stdout", b"lost\n")
    monkeypatch.delattr(sys, "stdout")
    forwarder.output(1, 1, "stdout", b"lost\n")


def test_a_stream_that_cannot_encode_shows_escapes() -> None:
    raw = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(raw, encoding="ascii", write_through=True)):
        Forwarder().output(1, 1, "stdout", "hand ✋\n".encode())
        assert raw.getvalue() == b"hand \\u270b\n"


def test_writing_may_come_back() -> None:
    forwarder = Forwarder()

    class Ends(io.StringIO):
        """A stream whose writing runs code that ends a worker, as a finalizer might."""

        def write(self, text: str, /) -> int:
            forwarder.ended(2)
            return super().write(text)

    with redirect_stdout(Ends()) as target:
        forwarder.output(1, 1, "stdout", b"one\n")
    assert target.getvalue() == "one\n"


# Reports


class Pipe:
    """A reports pipe whose frames can be looked at."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.pipe = reports.ReportPipe(self.writer, lambda: None)

    def frames(self) -> list[tuple[bytes, bytes]]:
        os.close(self.writer)
        with open(self.reader, "rb") as file:
            data = file.read()
        found = []
        while data:
            length = int.from_bytes(data[:4], "little")
            found.append((data[4:5], data[5 : 4 + length]))
            data = data[4 + length :]
        return found


def record(level: int = logging.WARNING, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("here.there", level, "file.py", 7, "%s and %d", ("a", 2), None)
    made.__dict__.update(extra)
    return made


def test_frames_have_length_kind_and_payload() -> None:
    pipe = Pipe()
    assert pipe.pipe.send(reports.BROKEN, b"")
    assert pipe.pipe.send(reports.LOG, b"abc" * 1000)
    assert pipe.frames() == [(b"B", b""), (b"L", b"abc" * 1000)]


def test_what_the_parent_would_not_read_is_not_sent() -> None:
    pipe = Pipe()
    assert not pipe.pipe.send(reports.LOG, bytes(64 << 20))
    assert pipe.pipe.send(reports.LOG, b"short")
    assert pipe.frames() == [(b"L", b"short")]


def test_a_parent_that_is_gone_is_no_error() -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    assert not pipe.pipe.send(reports.LOG, b"x")
    os.close(pipe.writer)


def test_log_records_reach_the_parents_handlers(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("inner")
    except KeyError:
        sent = record(exc_info=sys.exc_info(), user="ann", unpicklable=lambda: 0)
    payload = reports.pickle_record(sent, "worker-5")
    assert sent.args == ("a", 2)
    Forwarder().deliver(b"L", payload)
    (shown,) = caplog.records
    assert shown.getMessage() == "a and 2"
    assert shown.processName == "worker-5"
    assert shown.__dict__["user"] == "ann"
    assert "<lambda>" in shown.__dict__["unpicklable"]
    assert shown.exc_text is not None
    assert "KeyError: 'inner'" in shown.exc_text


def test_the_parents_levels_decide(caplog: pytest.LogCaptureFixture) -> None:
    payload = reports.pickle_record(record(), "worker-1")
    with caplog.at_level(logging.ERROR, "here.there"):
        Forwarder().deliver(b"L", payload)
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG, "here"):
        Forwarder().deliver(b"L", payload)
    assert len(caplog.records) == 1


def test_warnings_are_the_parents_own() -> None:
    forwarder = Forwarder()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):  # two workers, one place: told once
            forwarder.deliver(b"W", pickle.dumps(("careful", UserWarning, "f.py", 3, "mod")))
        warnings.filterwarnings("ignore", module="quiet")
        forwarder.deliver(b"W", pickle.dumps(("careful", UserWarning, "f.py", 3, "quiet")))
    assert [(str(each.message), each.filename, each.lineno) for each in caught] == [
        ("careful", "f.py", 3)
    ]


def test_a_warning_that_is_an_error_by_now_is_shown() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        Forwarder().deliver(b"W", pickle.dumps(("careful", UserWarning, "f.py", 3, "mod")))
    assert [str(each.message) for each in caught] == ["careful"]


def test_a_broken_initializer_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    forwarder = Forwarder()
    for _ in range(3):
        forwarder.deliver(b"B", b"ValueError: no")
    (told,) = caplog.records
    assert (told.name, told.levelno) == ("concurrent.futures", logging.CRITICAL)
    assert told.getMessage() == "Exception in initializer:\nValueError: no"


def test_a_handler_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise SystemExit("filters may raise anything")

    logger = logging.getLogger("here.there")
    fails = Fails()
    logger.addFilter(fails)
    target = io.StringIO()
    try:
        with redirect_stderr(target):
            Forwarder().deliver(b"L", reports.pickle_record(record(), "worker-1"))
            Forwarder().deliver(b"L", b"no pickle")
    finally:
        logger.removeFilter(fails)
    assert "filters may raise anything" in target.getvalue()
    assert "UnpicklingError" in target.getvalue()
    assert caplog.records == []
