"""Datagrams in event loops: each is handled by a task of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from manyhands._server.datagram_handler import is_of_sending
from manyhands._server.failure import log_failure
from manyhands._server.served_loop import ServedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["DatagramLoop", "answered_by"]

logger = logging.getLogger("manyhands.server")


class DatagramLoop(ServedLoop):
    """What one event loop of a server of datagrams does."""

    def _begin(self, data: Any, address: Any) -> None:
        task = self._loop.create_task(self._answer(data, address))
        # Eager ones may have ended already.
        if not task.done():
            self._tasks[task] = task
            task.add_done_callback(self._tasks.pop)

    async def _answer(self, data: bytes, address: Any) -> None:
        try:
            await self._service.serve(data, address)
        except BaseException as error:
            self._end_if_forked(error)
            if not isinstance(error, Exception):
                raise
            if is_of_sending(error):
                self._open.count("disconnected")
                logger.debug("the client at %s gets no reply: %s", address, error)
            else:
                log_failure(self._open, self._service.handler, address, error)
        else:
            self._end_if_forked(None)
        finally:
            self._leave()


def answered_by(
    serve: Callable[..., Any], server: Any, *, greenlets: bool
) -> Callable[[bytes, Any], Awaitable[object]]:
    """Return how event loops handle a datagram.

    Args:
        serve: what `answer_with` has made of a handler.
        server: the server, whose socket replies are sent by.
        greenlets: whether it is a plain function, that runs as a greenlet; else it is awaited.
    """
    if greenlets:
        from manyhands._coroutine.greenlets import run

        return lambda data, address: run(serve, (data, server.socket), address, server)
    return lambda data, address: serve((data, server.socket), address, server)
