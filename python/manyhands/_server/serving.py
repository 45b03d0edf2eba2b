"""What a server has in a process while it serves there."""

from __future__ import annotations

import os

from manyhands._server.children import Children
from manyhands._server.handler_threads import HandlerThreads
from manyhands._server.serve_loops import ServeLoops
from manyhands._server.shortage import Shortage

__all__ = ["Serving", "serve_in_child", "serving_of"]

_PLACE = "_serving"


class Serving:
    """The loops, threads and children of one server in one process."""

    def __init__(self, loops: ServeLoops | None = None) -> None:
        self.loops = ServeLoops() if loops is None else loops
        self.shortage = Shortage()
        self.threads = HandlerThreads(self.loops, self.request_ended)
        self.children = Children()

    def request_ended(self) -> None:
        """Have the server try to accept, if it paused, since what the request had is free."""
        self.shortage.try_now()
        self.loops.wake_wanting()


def serving_of(server: object) -> Serving:
    """Return what a server has in this process.

    It is made when it is first asked for: not every class of servers calls `__init__`, and a child
    that was forked has neither the threads nor the loops of its parent.
    """
    known: dict[int, Serving] = vars(server).setdefault(_PLACE, {})
    process = os.getpid()
    found = known.get(process)
    return known.setdefault(process, Serving()) if found is None else found


def serve_in_child(server: object, loops: ServeLoops) -> None:
    """Give a server loops that stand for its parent's, in a child forked for a request."""
    vars(server)[_PLACE] = {os.getpid(): Serving(loops)}
