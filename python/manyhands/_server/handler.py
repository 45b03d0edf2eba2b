"""Handlers: what users give to a server, and whether its workers can run it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import TypeAlias

    # Serves one connection to its end: socket, address of the client, server.
    Serve: TypeAlias = Callable[[socket.socket, Any, Any], object]

__all__ = ["serve_with"]


def serve_with(handler: object) -> Serve:
    """Return how threads serve a connection with a user's handler.

    Raises:
        TypeError: they cannot; the text says why, and what would do.
    """
    name = getattr(handler, "__qualname__", None) or repr(handler)
    if not callable(handler):
        raise TypeError(
            f"{name} cannot handle connections: it cannot be called. Pass a subclass of "
            "socketserver.BaseRequestHandler, or a function of a socket"
        )
    if _is_asynchronous(handler):
        raise TypeError(
            f"{name} is an async function, which needs an event loop, and workers are threads: "
            "write it as a function of a socket, or serve it with asyncio.start_server"
        )
    if isinstance(handler, type):
        return handler
    if not _takes_one(handler):
        raise TypeError(
            f"{name} cannot be called with one argument, the socket of a connection: pass a "
            "function of a socket, or a subclass of socketserver.BaseRequestHandler"
        )

    def serve(connection: socket.socket, _address: object, _server: object) -> object:
        return handler(connection)

    return serve


def _is_asynchronous(handler: Any) -> bool:
    if isinstance(handler, type):
        return inspect.iscoroutinefunction(getattr(handler, "handle", None))
    call = vars(type(handler)).get("__call__")
    return any(
        test(what)
        for test in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        for what in (handler, call)
    )


def _takes_one(handler: Callable[..., object]) -> bool:
    try:
        inspect.signature(handler).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True  # a function of C that does not tell
    return True
