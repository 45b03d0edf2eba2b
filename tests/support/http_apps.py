"""Web applications that do the same by each interface, for tests of what serves them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from wsgiref.validate import validator

PAUSE_S = 0.005
PAGE = b"""<!doctype html><title>manyhands</title><p id="p">waits</p><script>
fetch("/echo", {method: "POST", body: "dino"}).then(answer => answer.text())
  .then(text => document.getElementById("p").textContent = "it is a " + text);
</script>"""


def begin(folder: Path) -> None:
    """Say that a request is being served."""
    (folder / f"begun-{os.getpid()}-{time.monotonic_ns()}").touch()


def may_go_on(folder: Path) -> bool:
    """Whether the test has allowed it."""
    return (folder / "go").exists()


def unchecked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer by WSGI."""
    path, query = environ["PATH_INFO"], unquote(environ["QUERY_STRING"])
    if path == "/silent":
        return []
    if path == "/error":
        raise ZeroDivisionError("as the test wishes")
    kind = "text/html" if path == "/page" else "text/plain"
    if path == "/stream":
        start_response("200 OK", [("Content-Type", kind)])
        return stream(Path(query))
    body = answer(environ, path, query)
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


def answer(environ: dict[str, Any], path: str, query: str) -> bytes:
    match path:
        case "/info":
            known = {name: value for name, value in environ.items() if isinstance(value, str)}
            return json.dumps(known).encode()
        case "/echo":
            parts = iter(lambda: environ["wsgi.input"].read(65536), b"")
            return b"".join(parts)
        case "/page":
            return PAGE
        case "/hold":
            begin(Path(query))
            while not may_go_on(Path(query)):
                time.sleep(PAUSE_S)
    return b"%d" % os.getpid()


def stream(folder: Path) -> Iterator[bytes]:
    yield b"first "
    while not may_go_on(folder):
        time.sleep(PAUSE_S)
    yield b"second"


wsgi = validator(unchecked)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer by ASGI."""
    match scope["type"]:
        case "lifespan":
            await live(scope, receive, send)
        case "websocket":
            await talk(scope, receive, send)
        case _:
            await respond(scope, receive, send)


async def live(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        if event == "lifespan.startup" and "MANYHANDS_TEST_NO_START" in os.environ:
            await send({"type": "lifespan.startup.failed", "message": "as the test wishes"})
            return
        scope["state"]["began"] = "with the process"
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def talk(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] == "/refused":
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
        if message.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4000})


async def respond(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    path, query = scope["path"], unquote(scope["query_string"].decode())
    body = b""
    while path == "/echo":
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    match path:
        case "/silent":
            return
        case "/error":
            raise ZeroDivisionError("as the test wishes")
        case "/info":
            known: dict[str, Any] = {
                name: each for name, each in scope.items() if type(each) is str
            }
            known["headers"] = {name.decode(): value.decode() for name, value in scope["headers"]}
            body = json.dumps(known | {"state": scope["state"]}).encode()
        case "/page":
            body = PAGE
        case "/hold":
            begin(Path(query))
            while not may_go_on(Path(query)):
                await asyncio.sleep(PAUSE_S)
        case "/stream":
            body = b"first "
    kind = b"text/html" if path == "/page" else b"text/plain"
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = body or (b"" if path == "/echo" else b"%d" % os.getpid())
    await send({"type": "http.response.body", "body": body, "more_body": path == "/stream"})
    if path == "/stream":
        while not may_go_on(Path(query)):
            await asyncio.sleep(PAUSE_S)
        await send({"type": "http.response.body", "body": b"second"})
