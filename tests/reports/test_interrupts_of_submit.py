"""What a signal handler raises while `submit` starts a thread reaches whoever submits.

Found by use: Ctrl-C in the first moments of a map on threads was lost now and then, and the map ran
on to its end. A thread that cannot be started is no matter while there are others, and what was
raised in the meantime was taken for that.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import pytest

import manyhands as mh
from manyhands._interpreter.sure_thread import SureThread
from manyhands._worker import crew


class Interrupted(SureThread):
    """A thread during whose start a signal comes."""

    def start(self) -> None:
        """Start it, and wait until it runs."""
        super().start()
        signal.raise_signal(signal.SIGINT)

    def begin(self, failed: Callable[[BaseException], object]) -> None:
        """Start it."""
        super().begin(failed)
        signal.raise_signal(signal.SIGINT)


class Refused(SureThread):
    """A thread that the system refuses."""

    def start(self) -> None:
        """Fail as `threading.Thread` does."""
        raise RuntimeError("can't start new thread")

    def begin(self, failed: Callable[[BaseException], object]) -> None:
        """Fail in the same way."""
        self.start()


class Unlikely(Exception):
    """No error of a start."""


def raise_unlikely(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle a signal."""
    raise Unlikely


@pytest.mark.parametrize("error", [KeyboardInterrupt, Unlikely])
def test_it_is_raised_although_there_is_another_thread(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    handler = raise_unlikely if error is Unlikely else signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    try:
        with mh.ThreadPoolExecutor(2) as pool:
            first = pool.submit(gate.wait, 30)
            monkeypatch.setattr(crew, "SureThread", Interrupted)
            with pytest.raises(error):
                pool.submit(abs, -1)
            monkeypatch.undo()
            gate.set()
            assert first.result()
            assert [pool.submit(abs, -number).result() for number in range(5)] == list(range(5))
    finally:
        gate.set()
        signal.signal(signal.SIGINT, before)


def test_a_thread_that_is_refused_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    with mh.ThreadPoolExecutor(2) as pool:
        first = pool.submit(gate.wait, 30)
        monkeypatch.setattr(crew, "SureThread", Refused)
        second = pool.submit(abs, -1)
        gate.set()
        assert (first.result(), second.result()) == (True, 1)


@pytest.mark.parametrize("thread", [Interrupted, Refused])
def test_what_is_raised_while_a_closing_pool_starts_a_thread(
    thread: type[SureThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It needs one for the task that waits for another pool's.
    gate = threading.Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with mh.ThreadPoolExecutor(1) as other:
            first = other.submit(gate.wait, 30)
            pool = mh.ThreadPoolExecutor(1)
            second = pool.options(wait_for_futures=True).submit(bool, first)
            with monkeypatch.context() as patch:
                patch.setattr(crew, "SureThread", thread)
                if thread is Interrupted:
                    with pytest.raises(KeyboardInterrupt):
                        pool.shutdown(wait=False)
                else:
                    pool.shutdown(wait=False)
            gate.set()
            assert second.result(30) is True
            pool.shutdown()
    finally:
        gate.set()
        signal.signal(signal.SIGINT, before)
