"""What a serving process and its parent tell each other: lines of JSON over a socket pair."""

from __future__ import annotations

import json
import socket
from typing import Any

__all__ = ["ControlSocket"]


class ControlSocket:
    """One end of the pair. The other end's death is the end of the stream."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._unread = b""

    def fileno(self) -> int:
        """Return the number of the descriptor; -1 once it is closed."""
        return self._socket.fileno()

    def tell(self, **message: Any) -> bool:
        """Send a message; False if nobody is there to read it, or has read for long."""
        line = json.dumps(message).encode() + b"\n"
        try:
            # A process that is stopped must not stop us. A line goes as a whole or not at all.
            return self._socket.send(line, socket.MSG_DONTWAIT) == len(line)
        except OSError:
            return False

    def hear(self) -> list[dict[str, Any]] | None:
        """Wait for messages, and return those that are there; None at the end."""
        try:
            read = self._socket.recv(65536)
        except ConnectionError:
            return None
        if not read:
            return None
        *lines, self._unread = (self._unread + read).split(b"\n")
        return [json.loads(line) for line in lines]

    def stop_waiting(self) -> None:
        """Have `hear` raise BlockingIOError where it would wait."""
        self._socket.setblocking(False)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
