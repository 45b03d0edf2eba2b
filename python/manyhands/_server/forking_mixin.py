"""A forked process for each request, of which there are only so many."""

from __future__ import annotations

import os
import socketserver
from typing import TYPE_CHECKING, Any

from manyhands._server.children import reap_left
from manyhands._server.serving import serve_in_child, serving_of

if TYPE_CHECKING:
    from typing import NoReturn

    from manyhands._server.serve_loops import ServeLoops

__all__ = ["ForkingMixIn"]


class ForkingMixIn(socketserver.ForkingMixIn):
    """`socketserver.ForkingMixIn` that reaps its own children only, as soon as they end.

    Attributes:
        max_children: how many requests are handled at a time. While there are so many, the server
            accepts no more: connections wait where the system keeps them.
        timeout: as in the standard library.
        block_on_close: as in the standard library.
    """

    def process_request(self, request: Any, client_address: Any) -> None:
        """Fork a process that handles the request."""
        serving = serving_of(self)
        if self.active_children is None:
            self.active_children = set()
        self.collect_children()
        reap_left()
        loops = serving.loops.for_child()
        child = os.fork()
        if child == 0:
            self.__handle(loops, request, client_address)
        self.active_children.add(child)
        serving.children.add(child)
        self.close_request(request)  # type: ignore[attr-defined]

    def __handle(self, loops: ServeLoops, request: Any, client_address: Any) -> NoReturn:
        """Handle a request, and end this process, whatever happens."""
        status = 1
        server: Any = self
        try:
            serve_in_child(self, loops)
            server.finish_request(request, client_address)
            status = 0
        except Exception:
            server.handle_error(request, client_address)
        finally:
            try:
                server.shutdown_request(request)
            finally:
                os._exit(status)

    def collect_children(self, *, blocking: bool = False) -> None:
        """Reap the children that have ended, and wait until there is room for another one.

        Args:
            blocking: wait until all have ended.
        """
        active = self.active_children
        if active is None:
            return
        serving = serving_of(self)
        # A loop of ours accepts nothing without room, and must not wait here.
        may_wait = not serving.loops.is_of_this_thread()
        while True:
            active.difference_update(serving.children.reap(active))
            is_full = may_wait and len(active) >= self.max_children
            if not active or not (blocking or is_full):
                return
            serving.children.wait(active)

    def server_close(self) -> None:
        """Close what the server has, and wait for its children if `block_on_close`."""
        super().server_close()
        serving_of(self).children.leave(self.active_children or ())

    def _may_accept(self) -> bool:
        if self.max_children < 1:
            raise ValueError(
                f"max_children of {type(self).__name__} must be at least 1, not {self.max_children}"
            )
        return len(self.active_children or ()) < self.max_children

    def _acts_regularly(self) -> bool:
        function: Any = getattr(self.service_actions, "__func__", None)
        if function is socketserver.ForkingMixIn.service_actions:
            return not serving_of(self).children.has_all(self.active_children or ())
        return True

    def _tend_children(self) -> None:
        # Not by a method that may have been overridden: what is not reaped wakes the loop again.
        active = self.active_children or set()
        active.difference_update(serving_of(self).children.reap(active))
