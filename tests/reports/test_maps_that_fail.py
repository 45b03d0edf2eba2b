"""A map raises as soon as it is known which item failed first; what runs goes on to its end.

Whether it waited for that depended on whether the executor was the map's own or the shared one, so
on `max_workers`: an item that never ends kept the error of another from its caller.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually


class Refused(Exception):
    """What the first item raises."""


def fail_beside(running: Any, gate: Any, trace: str, number: int) -> int:
    """As item 0, fail once another one runs; as item 1, run until the gate is opened."""
    if number == 0:
        assert running.wait(30)
        raise Refused(number)
    if number == 1:
        running.set()
        assert gate.wait(30)
    with open(trace, "a") as file:
        file.write(f"{number} ")
    return number


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize("form", [mh.map, mh.imap], ids=["map", "imap"])
def test_nobody_waits_for_what_runs(form: Any, kind: str, own: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.touch()
    running, gate = mh.Event(), mh.Event()
    workers = mh.shared_pool(2, workers=kind)._max_workers + own
    try:
        with pytest.raises(Refused):
            # Later items have no worker until one of these two ends.
            list(
                form(
                    lambda number: fail_beside(running, gate, str(trace), number),
                    [0, 1] + [2] * 60,
                    workers=kind,
                    max_workers=workers,
                    chunksize=1,
                )
            )
        assert "1" not in trace.read_text().split()
    finally:
        gate.set()
    eventually(lambda: "1" in trace.read_text().split(), "what runs goes on to its end")
