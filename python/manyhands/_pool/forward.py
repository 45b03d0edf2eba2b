"""What workers print, log and warn about, shown by the parent as if it had done so itself.

Lines are written to ``sys.stdout`` and ``sys.stderr`` as they are at that moment, so that
notebooks, ``contextlib.redirect_stdout`` and pytest's capture see them. A line always comes out
whole: only complete lines are written, whichever worker they come from.
"""

from __future__ import annotations

import codecs
import logging
import sys
import traceback
import warnings
from threading import RLock
from typing import Any, Literal, TextIO

from manyhands._worker.reports import BROKEN, LOG, SHORTAGE, WARNING

__all__ = ["Forwarder"]

Stream = Literal["stdout", "stderr"]

# A line that grows beyond this is written before its end has come, so that a worker that never
# ends a line cannot fill the parent's memory.
LONGEST_LINE = 1 << 20  # characters


class Forwarder:
    """Shows what the workers of one pool have to say.

    No method raises an exception: whatever is wrong with the parent's streams, log handlers or
    warning filters, the pool goes on. The methods may be called from any thread.

    Args:
        prefix: put before every line, or None. ``{worker}`` and ``{pid}`` in it are replaced by the
            worker's number and process id.

    Example:
        >>> forwarder = Forwarder(prefix="[worker-{worker}] ")
        >>> forwarder.output(3, 4711, "stdout", b"half a li")
        >>> forwarder.output(3, 4711, "stdout", b"ne\\n")
        [worker-3] half a line
    """

    def __init__(self, prefix: str | None = None) -> None:
        self._prefix = prefix
        # Reentrant: writing may run a finalizer, which may end a pool.
        self._lock = RLock()
        self._lines: dict[tuple[int, Stream], _LineAssembler] = {}
        # Which worker has written the beginning of a line that was too long to wait for its end.
        self._unfinished: dict[Stream, tuple[int, Stream]] = {}
        self._registries: dict[str, dict[Any, Any]] = {}
        self._broken = False

    def output(self, participant: int, pid: int, stream: Stream, data: bytes) -> None:
        """Take what a worker has written to one of its streams, and show the complete lines.

        Args:
            participant: number of the worker.
            pid: its process id.
            stream: ``"stdout"`` or ``"stderr"``.
            data: the bytes, cut anywhere.
        """
        key = (participant, stream)
        with self._lock:
            assembler = self._lines.get(key)
            if assembler is None:
                assembler = self._lines[key] = _LineAssembler(self._label(participant, pid))
            self._show(key, assembler.feed(data))

    def ended(self, participant: int) -> None:
        """Show what a worker that has ended left without an end of line.

        Args:
            participant: number of the worker; it may be used again for a new one.
        """
        with self._lock:
            for stream in ("stdout", "stderr"):
                key: tuple[int, Stream] = (participant, stream)
                assembler = self._lines.pop(key, None)
                if assembler is not None:
                    self._show(key, assembler.finish())

    def deliver(self, kind: bytes, payload: bytes) -> None:
        """Take one frame of a worker's reports pipe.

        Args:
            kind: one of those that ``reports`` describes.
            payload: the frame's content.
        """
        try:
            if kind == LOG:
                _log(_loads(payload))
            elif kind == WARNING:
                self._warn(*_loads(payload))
            elif kind == BROKEN:
                self.broken(payload.decode("utf-8", "replace"))
            elif kind == SHORTAGE:
                logging.getLogger("concurrent.futures").warning(payload.decode("utf-8", "replace"))
        except BaseException:
            _complain()

    def broken(self, text: str) -> None:
        """Log that an initializer has failed: once, however many workers say so.

        Args:
            text: the traceback.
        """
        with self._lock:
            told, self._broken = self._broken, True
        if not told:
            logging.getLogger("concurrent.futures").critical("Exception in initializer:\n%s", text)

    def _label(self, participant: int, pid: int) -> str:
        if self._prefix is None:
            return ""
        return self._prefix.replace("{worker}", str(participant)).replace("{pid}", str(pid))

    def _show(self, key: tuple[int, Stream], text: str) -> None:
        """Write text that ends with an end of line, or is the beginning of a very long line."""
        if not text:
            return
        stream = key[1]
        unfinished = self._unfinished.pop(stream, None)
        if unfinished is not None and unfinished != key:
            text = "\n" + text
        if not text.endswith("\n"):
            self._unfinished[stream] = key
        try:
            _write(getattr(sys, stream), text)
        except BaseException:
            pass  # the stream is closed or broken, and it is where this would have to be told

    def _warn(
        self,
        text: str,
        category: type[Warning],
        filename: str,
        lineno: int,
        module: str | None,
    ) -> None:
        registry = self._registries.setdefault(f"{module} {filename}", {})
        try:
            warnings.warn_explicit(text, category, filename, lineno, module, registry)
        except Warning:
            # The filters make it an error now, which they did not when the worker started: there
            # is no task left in which it could be raised.
            warnings.showwarning(text, category, filename, lineno)


class _LineAssembler:
    """Puts complete lines together from bytes that are cut anywhere."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._partial: list[str] = []
        self._length = 0
        self._at_start = True  # nothing of the current line has been given out yet

    def feed(self, data: bytes) -> str:
        """Return the lines that ``data`` completes; empty while there is only a part of one."""
        return self._take(self._decoder.decode(data))

    def finish(self) -> str:
        """Return what is left, with the end of line that it lacks."""
        text = self._take(self._decoder.decode(b"", True))
        if self._partial or not self._at_start:
            text += self._labelled("".join(self._partial) + "\n")
            self._partial.clear()
        return text

    def _take(self, text: str) -> str:
        complete, newline, rest = text.rpartition("\n")
        ready = ""
        if newline:
            ready = self._labelled("".join(self._partial) + complete + newline)
            self._partial.clear()
            self._length = 0
        if rest:
            self._partial.append(rest)
            self._length += len(rest)
            if self._length > LONGEST_LINE:
                ready += self._labelled("".join(self._partial))
                self._partial.clear()
                self._length = 0
        return ready

    def _labelled(self, text: str) -> str:
        starts_line, self._at_start = self._at_start, text.endswith("\n")
        if not self._label:
            return text
        lines = _split_lines(text)
        labelled = [self._label + line for line in lines]
        if not starts_line:
            labelled[0] = lines[0]
        return "".join(labelled)


def _split_lines(text: str) -> list[str]:
    """Lines with their ends; unlike ``str.splitlines``, only a line feed ends one."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:
        return
    try:
        stream.write(text)
    except UnicodeEncodeError as error:
        stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
    stream.flush()


def _loads(payload: bytes) -> Any:
    from _pickle import loads

    return loads(payload)


def _log(fields: dict[str, Any]) -> None:
    sent = fields["exc_info"]
    if sent is not None:
        from manyhands._pickle.remote_error import load_exception

        error = load_exception(sent)
        fields["exc_info"] = (type(error), error, None)
    record = logging.makeLogRecord(fields)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _complain() -> None:
    """Show an error of the parent's own handlers or filters where errors of handlers are shown."""
    try:
        if logging.raiseExceptions and sys.stderr is not None:
            traceback.print_exc()
    except BaseException:
        pass  # there is nowhere left to show it
