"""A thread for each request, of which there are only so many."""

from __future__ import annotations

import socketserver
from typing import Any

from manyhands._server.handler_threads import Job, inherited_context
from manyhands._server.serving import serving_of

__all__ = ["ThreadingMixIn"]


class _OwnThreads:
    """Finds the threads of a server, where the standard library has its list of them."""

    def __get__(self, server: object | None, _kind: type) -> Any:
        return self if server is None else serving_of(server).threads


class ThreadingMixIn(socketserver.ThreadingMixIn):
    """`socketserver.ThreadingMixIn` with a bound, and with threads that are used again.

    Attributes:
        max_threads: how many requests are handled at a time; None is no bound. While there are so
            many, the server accepts no more: connections wait where the system keeps them.
        reuse_threads: whether a thread may handle another request when it is done. Context
            variables are always those of one request; what is in `threading.local` stays.
        daemon_threads: as in the standard library.
        block_on_close: as in the standard library.
    """

    max_threads: int | None = 512
    reuse_threads: bool = True
    _threads = _OwnThreads()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have a thread handle the request."""
        serving = serving_of(self)
        if not serving.loops.is_of_this_thread():
            # A loop of ours has looked before it accepted, and must not wait here.
            serving.threads.wait_for_room(self.__most())
        is_daemon = bool(self.daemon_threads)
        serving.threads.hand_over(
            Job(
                inherited_context().run,
                (self.process_request_thread, request, client_address),
                type(self).__name__,
                is_daemon,
                bool(self.block_on_close) and not is_daemon,
                self.reuse_threads,
            )
        )

    def _may_accept(self) -> bool:
        return serving_of(self).threads.has_room(self.__most())

    def __most(self) -> int | None:
        most = self.max_threads
        if most is not None and most < 1:
            raise ValueError(f"max_threads of {type(self).__name__} must be at least 1, not {most}")
        return most
