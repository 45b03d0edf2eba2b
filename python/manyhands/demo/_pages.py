"""A local web server that answers slowly, in a process of its own (`_page_program.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["PageServer"]

_PROGRAM: Final = Path(__file__).with_name("_page_program.py")


class PageServer:
    """Serves ``/page/0``, ``/page/1``, … on this machine; a context manager.

    Args:
        delay: seconds after which a request is answered.

    Attributes:
        url: where it is, such as ``http://127.0.0.1:40123``, once the context is entered.

    Raises:
        OSError: on entering the context, if the server cannot be started.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> PageServer:
        # A process group of its own keeps Ctrl-C from it: ending it is for __exit__.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM), str(self._delay)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        try:
            assert self._process.stdout is not None
            self.url = self._process.stdout.readline().strip().decode()
            if not self.url:
                raise OSError("the demo's page server ended as soon as it was started")
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # It has nothing to save or to say.
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
