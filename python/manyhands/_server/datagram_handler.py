"""Handlers of datagrams: what users give to a server, and how what they return is sent."""

from __future__ import annotations

import errno
import socketserver
from socket import MSG_DONTWAIT
from typing import TYPE_CHECKING, Any

from manyhands._server.handler import is_asynchronous, made_by, name_of, takes

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

__all__ = ["answer_with", "check_options", "is_of_sending"]

_WHAT_WOULD_DO = (
    "Pass a function that is called with a datagram's bytes and the address of its sender, and "
    "returns a reply or None, or a subclass of socketserver.DatagramRequestHandler"
)

_UNFIT = {
    True: "no async function, and would hold up its event loop: serve it with workers='thread' or "
    "'greenlet', or write it as `async def handle(data, address)`",
    False: "an async function, which needs an event loop: serve it with workers='coroutine', or "
    "write it as a plain function",
}


def answer_with(handler: Any, *, coroutines: bool) -> Any:
    """Return how workers handle a datagram with a user's handler.

    Args:
        handler: what users give.
        coroutines: whether it is awaited in an event loop.

    Returns:
        A function of the bytes with the socket, the sender's address and the server.

    Raises:
        TypeError: they cannot; the text says why, and what would do.
    """
    name = name_of(handler)
    if not callable(handler):
        raise TypeError(f"{name} cannot handle datagrams: it cannot be called. {_WHAT_WOULD_DO}")
    if is_asynchronous(handler) != coroutines:
        raise TypeError(f"{name} is {_UNFIT[coroutines]}")
    if coroutines:
        return _awaited(handler, name)
    kind = made_by(handler)
    if isinstance(kind, type) and issubclass(kind, socketserver.StreamRequestHandler):
        raise TypeError(f"{name} is for connections, and datagrams have none. {_WHAT_WOULD_DO}")
    # As with connections: where both would do, it is by kind.
    if takes(handler, 2) and not (isinstance(kind, type) and takes(handler, 3)):

        def answer(request: tuple[bytes, socket.socket], address: Any, _server: object) -> None:
            data, sender = request
            reply = handler(data, address)
            if reply is not None:
                _send(sender, reply, address)

        return answer
    if takes(handler, 3):
        return handler
    raise TypeError(f"{name} cannot be called with two arguments. {_WHAT_WOULD_DO}")


def _awaited(handler: Any, name: str) -> Any:
    if not takes(handler, 2):
        raise TypeError(
            f"{name} cannot be called with two arguments, the bytes of a datagram and the address "
            "of its sender: write it as `async def handle(data, address)`"
        )

    async def answer(request: tuple[bytes, socket.socket], address: Any, _server: object) -> None:
        data, sender = request
        reply = await handler(data, address)
        if reply is not None:
            # What has no room is lost, as on its way it might be.
            _send(sender, reply, address, MSG_DONTWAIT)

    return answer


def _send(sender: socket.socket, reply: Any, address: Any, flags: int = 0) -> None:
    if not address:
        raise ConnectionError(errno.EDESTADDRREQ, "it has no address to which a reply can be sent")
    sender.sendto(reply, flags, address)


def is_of_sending(error: BaseException) -> bool:
    """Tell whether a reply could not be sent since its client cannot be reached, or does not read.

    One that is too long is the handler's mistake.
    """
    if not isinstance(error, OSError) or error.errno == errno.EMSGSIZE:
        return False
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    senders = (_send.__code__, socketserver.DatagramRequestHandler.finish.__code__)
    return place is not None and place.tb_frame.f_code in senders


def check_options(overflow: object, of_connections: Mapping[str, object]) -> None:
    """Refuse options that make sense for connections only, and a function as `overflow`.

    Raises:
        ValueError: one of them was given.
    """
    given = [name for name, value in of_connections.items() if value is not None]
    if callable(overflow):
        given.append("overflow as a function")
    if given:
        raise ValueError(f"{given[0]} is for connections, and datagrams have none")
