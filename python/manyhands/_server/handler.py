"""Handlers: what users give to a server, and whether its workers can run it."""

from __future__ import annotations

import functools
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
    # Those of socketserver get three arguments, functions one; where both would do, it is by kind.
    is_class = isinstance(_made_by(handler), type)
    if is_class and _takes(handler, 3):
        return handler
    if _takes(handler, 1):

        def serve(connection: socket.socket, _address: object, _server: object) -> object:
            return handler(connection)

        return serve
    if _takes(handler, 3):
        return handler
    raise TypeError(
        f"{name} cannot be called with one argument, the socket of a connection: pass a "
        "function of a socket, or a subclass of socketserver.BaseRequestHandler, which is called "
        "with the socket, the address of the client and the server"
    )


def _made_by(handler: Any) -> Any:
    """Return what `functools.partial` has completed."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def _is_asynchronous(handler: Any) -> bool:
    handler = _made_by(handler)
    if isinstance(handler, type):
        return inspect.iscoroutinefunction(getattr(handler, "handle", None))
    call = vars(type(handler)).get("__call__")
    return any(
        test(what)
        for test in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        for what in (handler, call)
    )


def _takes(handler: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(handler).bind(*(None,) * count)
    except TypeError:
        return False
    except ValueError:
        return True  # a function of C that does not tell
    return True
