"""The program of the demonstration's clients; `_dinosaurs.py` has it started, by its path.

Called with the seconds that a client needs before it asks, it reads the port of a server, and a
line of names for each client, as JSON. It writes ``ready`` once it runs, and for each client that
has all answers its number and the CRC-32 of these. It ends by itself when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import zlib


async def _ask(port: int, number: int, names: list[str], pause: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    checksum = 0
    for name in names:
        await asyncio.sleep(pause)
        writer.write(f"{name}\n".encode())
        checksum = zlib.crc32(await reader.readline(), checksum)
    writer.close()
    await writer.wait_closed()
    print(number, checksum, flush=True)


async def _ask_all(port: int, clients: list[list[str]], pause: float) -> None:
    asyncio.get_running_loop().add_reader(0, sys.exit)
    asking = (_ask(port, number, names, pause) for number, names in enumerate(clients))
    await asyncio.gather(*asking)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    port, clients = json.loads(sys.stdin.readline())
    asyncio.run(_ask_all(port, clients, float(sys.argv[1])))
