"""The standard streams of a worker: pipes to the parent, which puts lines together.

Descriptors 1 and 2 themselves are the pipes, so that C code and subprocesses are heard, too.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import sys

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

__all__ = ["WorkerStreams"]

# Where the private copies of the pipes live: out of the way of tasks that count on low numbers
# or close "everything from 3 on" by hand.
_OUT_OF_THE_WAY = 200


class WorkerStreams:
    """Makes descriptors 0, 1, 2 and ``sys.stdin``, ``stdout``, ``stderr`` of a worker its own.

    Args:
        stdout: write end of the pipe for standard output; closed here.
        stderr: write end of the pipe for standard error; closed here.
        written: called whenever something is written.
        closed: called whenever one of the streams is closed.
    """

    def __init__(
        self, stdout: int, stderr: int, written: Callable[[], None], closed: Callable[[], None]
    ) -> None:
        self._written = written
        self._closed = closed
        null = os.open(os.devnull, os.O_RDWR)
        self._kept = [_put_away(null), _put_away(stdout), _put_away(stderr)]
        self._identity = [_identity(descriptor) for descriptor in self._kept]
        for number, descriptor in enumerate(self._kept):
            os.dup2(descriptor, number)
        self._open_streams()

    def _open_streams(self) -> None:
        self.stdin = io.TextIOWrapper(
            io.BufferedReader(io.FileIO(0, "r", closefd=False)), encoding="utf-8"
        )
        self.stdout = self._writer(1, "<stdout>")
        self.stderr = self._writer(2, "<stderr>")
        self.use()

    def _writer(self, number: int, name: str) -> io.TextIOWrapper:
        raw = _PipeWriter(number, name, self._closed, self.restore_descriptors)
        # stderr must be able to show anything; stdout says what it cannot encode (lone surrogates).
        errors = "backslashreplace" if number == 2 else "surrogateescape"
        return _LineWriter(raw, errors, self._written)

    def use(self) -> None:
        """Make these streams the interpreter's (again)."""
        sys.stdin = sys.__stdin__ = self.stdin  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = self.stdout  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self.stderr  # type: ignore[misc]

    def flush(self) -> None:
        """Write out what is still buffered; a stream that fails is left as it is."""
        for stream in (
            getattr(sys, "stdout", None),
            getattr(sys, "stderr", None),
            self.stdout,
            self.stderr,
        ):
            try:
                if stream is not None:
                    stream.flush()
            except Exception:
                continue  # a task's own stream, closed or broken

    def restore(self) -> None:
        """Undoes what a task did to the streams: closed or replaced, object or descriptor."""
        self.restore_descriptors()
        if self.stdin.closed or self.stdout.closed or self.stderr.closed:
            self._open_streams()
        else:
            self.use()

    def restore_descriptors(self) -> None:
        """Undoes what a task did to descriptors 0, 1 and 2."""
        for number, kept in enumerate(self._kept):
            try:
                intact = _identity(number) == self._identity[number]
            except OSError:
                intact = False
            if not intact:
                os.dup2(kept, number)


class _PipeWriter(io.RawIOBase):
    """Descriptor 1 or 2, restored when it turns out to have been closed."""

    # Until it is set up: io closes what it drops, also what was interrupted before.
    _closed: Callable[[], object] = staticmethod(lambda: None)

    def __init__(
        self,
        number: int,
        name: str,
        closed: Callable[[], None],
        restore: Callable[[], None],
    ) -> None:
        self.name = name
        self.mode = "w"
        self._number = number
        self._closed = closed
        self._restore = restore

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return os.write(self._number, data)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        self._closed()
        self._restore()
        return os.write(self._number, data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Close this object only: the descriptor is the worker's, not the task's."""
        self._closed()
        super().close()


class _LineWriter(io.TextIOWrapper):
    """Text to a pipe, written out at every end of line."""

    def __init__(self, raw: io.RawIOBase, errors: str, written: Callable[[], None]) -> None:
        self._written = written
        super().__init__(
            io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=True
        )

    def write(self, text: str, /) -> int:
        self._written()
        return super().write(text)


def _put_away(descriptor: int) -> int:
    try:
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
    except OSError:  # a process limit below that number
        copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return copy


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
