"""Serve in the main thread, until a signal says that it is enough."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from manyhands._server.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from manyhands._server.listener import Address

__all__ = ["ended_by_signals", "serve"]


def serve(address: Address, handler: Callable[..., object], **options: Any) -> None:
    """Serve an address until SIGTERM or Ctrl-C.

    Either lets handlers finish within the server's grace; a second one ends their connections at
    once. In another thread than the main one, which gets no signals, it serves for as long as the
    program runs.

    Args:
        address: where to listen; see `Server`.
        handler: what serves a connection; see `Server`.
        options: what else `Server` takes.

    Example:
        >>> from manyhands.server import serve
        >>> def shout(connection):
        ...     connection.sendall(connection.recv(1000).upper())
        >>> serve("127.0.0.1:9000", shout, max_workers=8)  # doctest: +SKIP
    """
    with Server(address, handler, **options) as server, ended_by_signals(server):
        server.serve_forever()


@contextmanager
def ended_by_signals(
    server: Server,
    on_end: Callable[[], object] = lambda: None,
    others: Mapping[int, Callable[[int, Any], object]] | None = None,
) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C end a server for the length of a block in the main thread.

    Args:
        server: the server. The first signal lets handlers finish, each further one does not.
        on_end: called before, each time.
        others: handlers of other signals for the same time.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = 0

    def end(_number: int, _frame: object) -> None:
        nonlocal seen
        seen += 1
        on_end()
        server.shutdown(None if seen == 1 else 0)

    handlers = {signal.SIGTERM: end, signal.SIGINT: end, **(others or {})}
    before = {number: signal.signal(number, each) for number, each in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
