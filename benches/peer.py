"""The other process of a benchmark: forked, it does one thing whenever it is told to."""

from __future__ import annotations

import multiprocessing
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

# What a peer may take to answer, or to end.
PATIENCE_S = 60.0


class PeerFailed(Exception):
    """What the other process was told to do has failed there; holds its traceback."""


class Peer:
    """A forked process that calls `act(argument)` for every argument it is told.

    A context manager: leaving ends the process. Objects under test reach it by fork, so they are
    made before it is.
    """

    def __init__(self, act: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("fork")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(act, theirs, self._line), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, argument: Any) -> None:
        """Have the process act, and do not wait."""
        self._line.send(argument)

    def answer(self) -> Any:
        """Wait until it has acted; return what it returned. Raises PeerFailed if it raised."""
        if not self._line.poll(PATIENCE_S):
            raise PeerFailed(f"no answer within {PATIENCE_S:.0f} s")
        result, failure = self._line.recv()
        if failure is not None:
            raise PeerFailed(failure)
        return result

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        self._process.join(PATIENCE_S)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def _serve(act: Callable[[Any], Any], line: Connection, unused: Connection) -> None:
    # The parent's end: open here, it would keep this process waiting after the parent's death.
    unused.close()
    while True:
        try:
            argument = line.recv()
        except EOFError:
            return
        result = failure = None
        try:
            result = act(argument)
        except Exception:
            failure = traceback.format_exc()
        line.send((result, failure))
