"""The program of the demonstration's web server; `_pages.py` has it started, by its path.

Called with the seconds after which to answer, it writes its address to standard output and serves
until its standard input ends. So it cannot outlive the process that started it, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from typing import Final

_HOST: Final = "127.0.0.1"
_REQUEST: Final = re.compile(rb"GET /page/(\d{1,6}) HTTP/1\.[01]\r\n")


def _page(request: bytes) -> tuple[bytes, bytes]:
    asked = _REQUEST.match(request)
    if asked is None:
        return b"404 Not Found", b""
    number = int(asked[1])
    return b"200 OK", b"<p>Page %d of many</p>\n" % number * (100 + number % 100)


async def _answer(delay: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Clients that hang up, or do not speak HTTP, are no concern of this server.
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        request = await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(delay)
        status, body = _page(request)
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % (status, len(body)) + body)
        await writer.drain()
    writer.close()


async def _serve(delay: float) -> None:
    abandoned = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, abandoned.set)
    server = await asyncio.start_server(
        lambda reader, writer: _answer(delay, reader, writer), _HOST, 0, backlog=512
    )
    host, port = server.sockets[0].getsockname()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    await abandoned.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(float(sys.argv[1])))
