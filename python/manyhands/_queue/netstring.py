"""Messages as bytes on a pipe, in a form that shell and C programs can write and read.

A message is a netstring: its length in decimal digits, a colon, its bytes, a comma. So
a shell takes part with ``printf '%d:%s,' 5 hello > path``. A single ``write`` of at most
``PIPE_BUF`` (4096) bytes is never mixed with another one, which is why longer messages are cut in
parts of that size. The parts stay together because their writer holds the exclusive ``flock`` of
the FIFO; a message of one part is written under the shared one.

==========================  ===================================
bytes on the pipe           what they are
==========================  ===================================
``5:hello,``                a message
``4:hell+``                 the first part of a longer one
``3;o w+``                  a part in its middle
``4;orld,``                 its last part
==========================  ===================================

A writer that dies between two parts leaves a message without an end. The next message begins with
``:``, and so the reader knows that nothing more will come of the unfinished one, and drops it.
"""

from __future__ import annotations

import errno
import select
from collections import deque

__all__ = ["Messages", "cut"]

# Room for the length, two separators, and the content in one atomic write.
_PART = select.PIPE_BUF - 8
# No length has more digits: ten million bytes in one part are a mistake, and waiting for them would
# swallow what follows.
_MOST_DIGITS = 7
_BEGINNINGS = b":;"
_CONTINUES = ord(";")
_ENDS = b",+"
_LAST = ord(",")


def cut(content: bytes | memoryview) -> list[bytes]:
    """Return a message as the pieces to write, each at once."""
    pieces = [bytes(content[at : at + _PART]) for at in range(0, len(content), _PART)] or [b""]
    last = len(pieces) - 1
    return [
        b"%d%b%b%b" % (len(piece), b";" if at else b":", piece, b"," if at == last else b"+")
        for at, piece in enumerate(pieces)
    ]


class Messages:
    """Puts messages together from the bytes of the pipe."""

    def __init__(self) -> None:
        self._bytes = bytearray()  # not looked at yet, from a part's first byte on
        self._open: bytearray | None = None  # the parts so far of a message without its end
        self._whole: deque[bytes] = deque()

    def has_one(self) -> bool:
        return bool(self._whole)

    def take(self) -> bytes:
        return self._whole.popleft()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the pipe."""
        self._bytes += chunk
        at = 0
        try:
            while (part := self._part(at)) is not None:
                start, end = part
                self._join(self._bytes[start - 1] == _CONTINUES, start, end)
                at = end + 1
        finally:
            del self._bytes[:at]

    def end(self) -> None:
        """No writer is left: what they did not finish, nobody will."""
        self._bytes.clear()
        self._open = None

    def _part(self, at: int) -> tuple[int, int] | None:
        """Where the content of the part at `at` begins and ends; None if it is not all there."""
        head = self._bytes[at : at + _MOST_DIGITS + 1]
        digits = len(head) - len(head.lstrip(b"0123456789"))
        if digits == len(head) and digits <= _MOST_DIGITS:
            return None
        if not 0 < digits <= _MOST_DIGITS or head[digits] not in _BEGINNINGS:
            self._refuse(at)
        start = at + digits + 1
        end = start + int(head[:digits])
        if end >= len(self._bytes):
            return None
        if self._bytes[end] not in _ENDS:
            self._refuse(at)
        return start, end

    def _refuse(self, at: int) -> None:
        sample = bytes(self._bytes[at : at + 24])
        self.end()
        raise OSError(
            errno.EBADMSG,
            f"what came is not a message ('<length>:<bytes>,') but begins with {sample!r}; "
            f"everything that arrived with it was dropped",
        )

    def _join(self, continues: bool, start: int, end: int) -> None:
        content = self._bytes[start:end]
        if not continues:
            self._open = content
        elif self._open is not None:
            self._open += content
        if self._bytes[end] == _LAST and self._open is not None:
            self._whole.append(bytes(self._open))
            self._open = None
