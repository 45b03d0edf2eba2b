"""A server of look-ups that wait, or compute, with each kind of worker."""

from __future__ import annotations

import asyncio
import difflib
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import manyhands as mh
from benches.server import HOST, ServerContender

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_S: Final = 0.01
# How a server is asked for each kind of worker.
KINDS: Final[dict[str, dict[str, Any]]] = {
    "one thread": {"workers": "thread", "max_workers": 1},
    "threads": {"workers": "thread", "max_workers": 64},
    "processes": {"workers": "process"},
    "coroutines": {"workers": "coroutine"},
    "greenlets": {"workers": "greenlet"},
}
REQUEST: Final = b"tyranosaurs\n"
ANSWER: Final = b"tyrannosaurus\n"
_TABLE = (files("manyhands.demo") / "dinosaurs.csv").read_text("utf-8")
_NAMES: Final = [line.partition(",")[0].lower() for line in _TABLE.splitlines()[1:]]


def closest(name: bytes) -> bytes:
    """Return the dinosaur whose name is most like this: computing, under the GIL."""
    return difflib.get_close_matches(name.decode(), _NAMES, 1)[0].encode()


def waiting(_: bytes) -> bytes:
    """Return what was waited for: in a thread, which holds up no other."""
    time.sleep(WAIT_S)
    return ANSWER[:-1]


async def awaiting(_: bytes) -> bytes:
    """Return what was waited for: in an event loop."""
    await asyncio.sleep(WAIT_S)
    return ANSWER[:-1]


def switching(_: bytes) -> bytes:
    """Return what was waited for: in a greenlet."""
    mh.sleep(WAIT_S)
    return ANSWER[:-1]


class LookUps(ServerContender):
    """Serves look-ups by one kind of worker."""

    def __init__(self, kind: str) -> None:
        self._workers = kind

    def serve(self, manners: str, tell: Callable[[int], None]) -> None:
        """Serve the work that `manners` names."""
        from manyhands.server import Server

        waits: dict[str, Callable[[bytes], object]]
        waits = {"coroutines": awaiting, "greenlets": switching}
        handler = waits.get(self._workers, waiting) if manners == "waits" else closest
        with Server((HOST, 0), handler, framing="lines", **KINDS[self._workers]) as server:
            tell(server.server_address[1])
            server.serve_forever()
