"""A signal handler that raises in the middle of a map, wherever it submits.

The usual one is that of SIGALRM, whose TimeoutError is a plain exception. Found by raising at every
line: the map waited forever for a task whose end it would not have been told of.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

import manyhands as mh


class Alarm(Exception):
    pass


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("at", range(1, 60, 3))
def test_the_handlers_error_comes_out(ordered: bool, at: int) -> None:
    seen = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith("_task/window.py"):
            return None
        if event == "line" and frame.f_code.co_name in {"fill", "_submit", "adopt"}:
            seen += 1
            if seen == at:
                raise Alarm
        return trace

    with mh.ThreadPoolExecutor(1) as pool:
        sys.settrace(trace)
        try:
            with pytest.raises(Alarm):
                list(pool.imap_unordered(abs, [-1] * 9) if not ordered else run_map())
        finally:
            sys.settrace(None)


def run_map() -> list[int]:
    return mh.map(abs, [-1] * 9, workers="thread", chunksize=1)
