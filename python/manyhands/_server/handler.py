"""Handlers: what users give to a server, and whether its workers can run it."""

from __future__ import annotations

import functools
import inspect
import socketserver
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import TypeAlias

    # Serves one connection to its end, or handles a datagram: with what `socketserver` calls the
    # request, a socket or (data, socket), with the address of the client, and the server.
    Serve: TypeAlias = Callable[[Any, Any, Any], object]

__all__ = ["is_asynchronous", "made_by", "name_of", "serve_with", "takes"]


def serve_with(handler: object, *, coroutines: bool) -> Any:
    """Return how workers serve a connection with a user's handler.

    Args:
        handler: what users give.
        coroutines: whether workers are event loops; else they are threads.

    Returns:
        For threads a function of a socket, the client's address and the server; for event loops one
        of a reader and a writer, that is awaited.

    Raises:
        TypeError: they cannot; the text says why, and what would do.
    """
    name = name_of(handler)
    if not callable(handler):
        raise TypeError(
            f"{name} cannot handle connections: it cannot be called. Pass a subclass of "
            "socketserver.BaseRequestHandler, a function of a socket, or an async function of a "
            "reader and a writer"
        )
    if is_asynchronous(handler) != coroutines:
        raise TypeError(_unfit(name, coroutines))
    return _on_loops(handler, name) if coroutines else _on_threads(handler, name)


def _unfit(name: str, coroutines: bool) -> str:
    if coroutines:
        return (
            f"{name} is no async function, and would hold up all clients of its event loop: serve "
            "it with workers='thread' or 'greenlet', or write it as "
            "`async def handle(reader, writer)`"
        )
    return (
        f"{name} is an async function, which needs an event loop of its own: serve "
        "it with workers='coroutine', or write it as a function of a socket"
    )


def _on_loops(handler: Any, name: str) -> Any:
    if not takes(handler, 2):
        raise TypeError(
            f"{name} cannot be called with two arguments, the reader and the writer of a "
            "connection: write it as `async def handle(reader, writer)`"
        )
    return handler


def _on_threads(handler: Any, name: str) -> Serve:
    kind = made_by(handler)
    is_class = isinstance(kind, type)
    if is_class and issubclass(kind, socketserver.DatagramRequestHandler):
        raise TypeError(
            f"{name} is for datagrams: serve it at an address such as udp:127.0.0.1:9000, or "
            "derive it from StreamRequestHandler"
        )
    # Those of socketserver get three arguments, functions one; where both would do, it is by kind.
    if is_class and takes(handler, 3):
        return handler  # type: ignore[no-any-return]
    if takes(handler, 1):

        def serve(connection: socket.socket, _address: object, _server: object) -> object:
            return handler(connection)

        return serve
    if takes(handler, 3):
        return handler  # type: ignore[no-any-return]
    raise TypeError(
        f"{name} cannot be called with one argument, the socket of a connection: pass a "
        "function of a socket, or a subclass of socketserver.BaseRequestHandler, which is called "
        "with the socket, the address of the client and the server"
    )


def name_of(handler: object) -> str:
    """Return what a handler is called in messages."""
    name = getattr(handler, "__qualname__", None)
    return name if isinstance(name, str) else repr(handler)


def made_by(handler: Any) -> Any:
    """Return what `functools.partial` has completed."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def is_asynchronous(handler: Any) -> bool:
    """Tell whether what it returns has to be awaited."""
    handler = made_by(handler)
    if isinstance(handler, type):
        return inspect.iscoroutinefunction(getattr(handler, "handle", None))
    call = vars(type(handler)).get("__call__")
    return any(
        test(what)
        for test in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        for what in (handler, call)
    )


def takes(handler: Callable[..., object], count: int) -> bool:
    """Tell whether it can be called with so many arguments."""
    try:
        inspect.signature(handler).bind(*(None,) * count)
    except TypeError:
        return False
    except ValueError:
        return True  # a function of C that does not tell
    return True
