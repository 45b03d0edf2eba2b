"""The server without a socket: how it serves and how it ends."""

from __future__ import annotations

import select
import socketserver
import time
from math import ceil
from typing import TYPE_CHECKING, Any

from manyhands._server.serving import serving_of

if TYPE_CHECKING:
    from manyhands._server.serve_loops import ServeLoop
    from manyhands._server.serving import Serving

__all__ = ["BaseServer"]


class BaseServer(socketserver.BaseServer):
    """`socketserver.BaseServer`, whose `shutdown` ends it at once and may be called anywhere.

    Its methods are those of the standard library, and so is what each of them may be overridden
    for. A class of the standard library becomes one of ours by a class of ours *after* it::

        class Server(ThreadingMixIn, http.server.HTTPServer, TCPServer): ...
    """

    @property
    def __shutdown_request(self) -> bool:
        # Programs that wanted the loop to end, but not to wait for that, set the standard library's
        # private flag by its full name.
        return False

    @__shutdown_request.setter
    def __shutdown_request(self, value: bool) -> None:
        if value:
            serving_of(self).loops.end()

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Handle requests until `shutdown`.

        Several threads may do so at once.

        Args:
            poll_interval: how often `service_actions` is called at the least, in seconds, if it has
                been overridden. Nothing else is polled.
        """
        serving = serving_of(self)
        try:
            with serving.loops.begun() as loop:
                self.__serve(serving, loop, poll_interval)
        finally:
            serving.threads.release()

    def __serve(self, serving: Serving, loop: ServeLoop, poll_interval: float) -> None:
        poll = select.poll()
        listener = self.fileno()  # type: ignore[attr-defined]
        poll.register(loop, select.POLLIN)
        is_listening = False
        children = -1
        while not loop.is_asked:
            # Before it looks: a request that ends from here on will wake it.
            loop.is_wanting = True
            pause = serving.shortage.left()
            may_accept = not pause and self._may_accept()
            loop.is_wanting = not may_accept
            if may_accept and not is_listening:
                poll.register(listener, select.POLLIN)
            elif is_listening and not may_accept:
                poll.unregister(listener)
            is_listening = may_accept
            if children != serving.children.fileno():
                children = serving.children.fileno()
                poll.register(children, select.POLLIN)
            waits = [pause] if pause else []
            if self._acts_regularly() and poll_interval is not None:
                waits.append(max(0.0, poll_interval))
            ready = {each for each, _ in poll.poll(ceil(1000 * min(waits)) if waits else None)}
            if loop.fileno() in ready:
                loop.look()
            if loop.is_asked:
                break
            if children in ready:
                self._tend_children()
            if listener in ready:
                self._handle_request_noblock()
            self.service_actions()

    def shutdown(self) -> None:
        """End `serve_forever` at once, and wait until it has ended.

        It may be called from any thread, from a signal handler, by a handler of a request, and more
        than once. The thread that serves does not wait, of course, and neither does a process that
        was forked for a request. If nothing serves, the next `serve_forever` will return at once:
        so a server may be shut down while the thread that will serve is still being started.
        """
        serving_of(self).loops.shut_down()

    def server_close(self) -> None:
        """Close what the server has; a loop that still serves ends."""
        serving_of(self).loops.end()
        super().server_close()

    def handle_request(self) -> None:
        """Handle one request, and wait for it at most `timeout` seconds, if that is not None."""
        pause = serving_of(self).shortage.left()
        if pause:
            time.sleep(pause if self.timeout is None else min(pause, self.timeout))
        super().handle_request()

    def _handle_request_noblock(self) -> None:
        shortage = serving_of(self).shortage
        try:
            request, client_address = self.get_request()
        except OSError as error:
            if shortage.is_one(error):
                shortage.note(error, self.server_address)
            return
        shortage.over()
        try:
            is_welcome = self.verify_request(request, client_address)
            if is_welcome:
                self.process_request(request, client_address)
        except Exception:
            try:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)
        except BaseException:
            self.shutdown_request(request)
            raise
        else:
            if not is_welcome:
                self.shutdown_request(request)

    # What the mix-ins say; each asks the next, as they may be combined with classes of others.

    def _may_accept(self) -> bool:
        """Say whether another request can be taken now; if not, the end of one wakes the loop."""
        return True

    def _acts_regularly(self) -> bool:
        """Say whether `service_actions` must be called even if nothing happens."""
        function: Any = getattr(self.service_actions, "__func__", None)
        return function is not socketserver.BaseServer.service_actions

    def _tend_children(self) -> None:
        """Reap children that have ended."""
