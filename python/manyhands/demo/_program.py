"""A program of the demonstration, beside this file, that runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Program"]


class Program:
    """Runs a program until its context ends.

    Args:
        name: its file.
        words: what it is called with.

    Raises:
        OSError: on entering the context, if it cannot be started.
    """

    def __init__(self, name: str, *words: str) -> None:
        path = str(Path(__file__).with_name(name))
        self._command = [sys.executable, "-I", "-S", path, *words]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # A process group of its own keeps Ctrl-C from it: ending it is for __exit__.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # It has nothing to save or to say.
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def told(self) -> str:
        """Return the next line it writes, without its end. Raises OSError if it has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip().decode()
        if not line:
            raise OSError(f"{self._command[3]}, a program of the demo, has ended too early")
        return line
