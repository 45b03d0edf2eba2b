"""`manyhands dead`: the messages over which processes have died, or that nobody can read."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from manyhands import _native
from manyhands._cluster.broker_url import broker_url
from manyhands._errors.cluster import BrokerError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run"]

PATIENCE_S: Final = 10.0
# So many are shown at most, unless all are asked for.
SHOWN: Final = 100


def run(
    act: str,
    queue: str,
    *,
    ids: list[str],
    everything: bool,
    to: str | None,
    as_json: bool,
    broker: str | None,
    broker_file: str | None,
) -> int:
    """Inspect, replay or drop dead letters; return the exit status.

    Args:
        act: ``"inspect"``, ``"replay"`` or ``"drop"``.
        queue: where they are from.
        ids: of the tasks whose letters are meant.
        everything: whether all are.
        to: where they are sent instead of where they are from.
        as_json: whether to print JSON.
        broker: its URL.
        broker_file: a file that has it.

    Raises:
        BrokerError: there is no broker or no such queue, or it is not said which letters.
    """
    if act != "inspect" and not ids and not everything:
        raise BrokerError(f"say which letters to {act}: --ids ID,… or --all")
    url = broker_url(broker, broker_file)
    try:
        visit = _native.ClusterVisit(url, f"manyhands dead {os.getpid()}", PATIENCE_S)
    except (ValueError, ConnectionError) as error:
        raise BrokerError(str(error)) from None
    failed = 0
    try:
        most = None if everything or ids else SHOWN
        for letter in letters(visit, _native.ClusterVisit.dead_letters(queue), most):
            if ids and letter.header("id") not in ids:
                continue
            print(_shown(letter, as_json), flush=True)
            try:
                if act == "replay":
                    visit.send_back(letter, to or letter.source_queue or queue)
                elif act == "drop":
                    visit.drop_letter(letter)
            except ConnectionError as error:
                failed += 1
                print(f"manyhands: that one stays: {error}", file=sys.stderr)
    finally:
        visit.end()
    return int(failed > 0)


def letters(
    visit: _native.ClusterVisit, queue: str, most: int | None
) -> Iterator[_native.DeadLetter]:
    """Yield the letters that are in a queue now, or the first of them."""
    try:
        there, _ = visit.depth(queue)
    except ConnectionError as error:
        if "NOT_FOUND" in str(error):
            return  # nothing has died yet
        raise BrokerError(str(error)) from None
    for _ in range(there if most is None else min(there, most)):
        letter = visit.next_letter(queue)
        if letter is None:
            return
        yield letter
    if most is not None and there > most:
        print(f"manyhands: {there - most} more; --all shows them", file=sys.stderr)


def _shown(letter: _native.DeadLetter, as_json: bool) -> str:
    row = {
        "id": letter.header("id"),
        "task": letter.header("task"),
        "because": letter.because,
        "from": letter.source_queue,
        "args": letter.header("argsrepr"),
        "kwargs": letter.header("kwargsrepr"),
        "origin": letter.header("origin"),
        "bytes": len(letter.body),
    }
    if as_json:
        return json.dumps(row)
    call = f"{row['task'] or 'no task'} {row['args'] or ''} {row['kwargs'] or ''}".strip()
    return f"{row['id'] or '-'}  {call}  {row['bytes']} bytes: {row['because'] or 'not said'}"
