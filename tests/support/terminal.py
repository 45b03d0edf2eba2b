"""The command in a terminal of its own, for tests."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from uuid import uuid4

__all__ = ["COMMAND", "Terminal"]

COMMAND = [sys.executable, "-m", "manyhands"]


class Terminal:
    """The command in a terminal of its own, and all that it wrote there; a context manager."""

    def __init__(self, columns: int, *words: str, rows: int = 24, **environment: str) -> None:
        self.written = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.mark = str(uuid4())
        self._master, follower = pty.openpty()
        self.resize(columns, rows)
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        # A session's first process makes the terminal that it opens the session's own, so that
        # Ctrl-C typed there goes to the command.
        opening = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(follower)]
        self._process = subprocess.Popen(
            [*opening, *COMMAND, *words],
            stdin=follower,
            env={**inherited, "TERM": "xterm", "MARK": self.mark, **environment},
            start_new_session=True,
        )
        os.close(follower)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def read_until(self, pattern: str) -> None:
        """Read on until `pattern` has been written; fail if the command ends before."""
        while not re.search(pattern, self.written):
            assert self._read(), f"ended without {pattern}: {self.written!r}"

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size; whoever runs in it gets SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def is_as_it_was(self) -> bool:
        """Whether the terminal shows what is typed, and gives it out by lines."""
        modes = termios.tcgetattr(self._master)[3]
        return bool(modes & termios.ECHO and modes & termios.ICANON)

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def press(self, key: bytes) -> None:
        """Type `key`."""
        os.write(self._master, key)

    def end(self) -> int:
        """Read until the command ends and return its exit status."""
        while self._read():
            pass
        return self._process.wait()

    def left_over(self) -> Iterator[int]:
        """Return processes that the command started, directly or not, and that are still there."""
        for entry in Path("/proc").iterdir():
            try:
                environment = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if f"MARK={self.mark}".encode() in environment.split(b"\0"):
                yield int(entry.name)

    def _read(self) -> bool:
        try:
            text = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the other end open any more
            return False
        # A read may end within a letter.
        self.written += self._decoder.decode(text)
        return bool(text)
