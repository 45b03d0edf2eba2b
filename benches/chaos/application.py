"""What every server serves: a word and the number of the process that says it, after a while."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

# How long an answer takes. A worker that is killed should have some under way.
WORK_S = 0.01
WORD = b"dino"
# What a client says that will ask for nothing more on a connection.
_CLOSE = b"\r\nConnection: close\r\n"


def _body() -> bytes:
    return b"%s %d\n" % (WORD, os.getpid())


def _answer() -> bytes:
    body = _body()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def handler(connection: socket.socket) -> None:
    """Answer requests of as much of HTTP/1.1 as the clients here speak."""
    request = b""
    while part := connection.recv(4096):
        request += part
        if not request.endswith(b"\r\n\r\n"):
            continue
        time.sleep(WORK_S)
        connection.sendall(_answer())
        if _CLOSE in request:
            return
        request = b""


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Do as `handler`, in an event loop."""
    while True:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        await asyncio.sleep(WORK_S)
        writer.write(_answer())
        await writer.drain()
        if _CLOSE in request:
            return


def wsgi(_environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer a request of WSGI."""
    time.sleep(WORK_S)
    body = _body()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(
    scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
) -> None:
    """Answer a request of ASGI, and take part in the lifespan."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": message["type"] + ".complete"})
        return
    await asyncio.sleep(WORK_S)
    body = _body()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
