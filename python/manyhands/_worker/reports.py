"""What a worker tells the parent beside results: log records, warnings, a broken initializer.

Each goes through the reports pipe in a frame, whose form and kinds are Rust's
(crates/pool/src/output_pipes.rs). What is in it depends on the kind:

- ``LOG``: a pickled dict, the attributes of a ``logging.LogRecord``;
- ``WARNING``: a pickled tuple, text, category, file name, line and module of a warning;
- ``BROKEN``: UTF-8 text, the traceback of an initializer that failed.

The parent itself adds ``SHORTAGE``, UTF-8 text: it cannot start workers at present.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from manyhands import _native
from manyhands._interpreter import import_watch, late

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from types import FrameType
    from typing import TextIO

    from manyhands._worker.log_set_up import LogSetUp

__all__ = [
    "BROKEN",
    "LOG",
    "SHORTAGE",
    "WARNING",
    "ReportPipe",
    "forward_logging",
    "forward_warnings",
]

LOG = _native.REPORT_LOG
WARNING = _native.REPORT_WARNING
BROKEN = _native.REPORT_BROKEN
SHORTAGE = _native.REPORT_SHORTAGE


class ReportPipe:
    """The worker's end of its reports pipe; any thread of the worker may send.

    Args:
        descriptor: the pipe.
        note: called after each frame, so that the parent reads the pipe before it gives out the
            result of the task at hand: a warning comes within the caller's ``catch_warnings``.
    """

    def __init__(self, descriptor: int, note: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._note = note
        self._lock = allocate_lock()
        self._pid = os.getpid()

    def send(self, kind: bytes, payload: bytes) -> bool:
        """Send one frame, waiting while the pipe is full.

        Args:
            kind: ``LOG``, ``WARNING`` or ``BROKEN``.
            payload: the frame's content.

        Returns:
            False if it could not be sent: it is too long, the parent has gone, or this is a child
            that a task has forked, whose frames would get mixed up with the worker's.
        """
        if os.getpid() != self._pid:
            return False
        frame = _native.report_frame(kind, payload)
        if frame is None:
            return False
        with self._lock:
            view = memoryview(frame)
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except OSError:
                    return False
        self._note()
        return True


def forward_logging(pipe: ReportPipe, set_up: LogSetUp, label: str) -> None:
    """Send the worker's log records to the parent, from when ``logging`` is first imported.

    Args:
        pipe: where to.
        set_up: the parent's; what the parent would not show for its levels is not sent.
        label: name of the worker, the records' ``processName``.
    """
    import_watch.after_import("logging", lambda: _install_logging(pipe, set_up, label))
    if set_up["logger_class"] is not None:
        # At once: what loads it imports logging as well, and is not ready while that comes to be.
        __import__("logging")


def _install_logging(pipe: ReportPipe, set_up: LogSetUp, label: str) -> None:
    import logging

    class ForwardHandler(logging.Handler):
        """Sends every record to the parent, whose handlers show it."""

        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "manyhands_told", False):
                return
            try:
                sent = pipe.send(LOG, pickle_record(record, label))
                if not sent and sys.stderr is not None:
                    sys.stderr.write(self.format(record) + "\n")
            except Exception:
                self.handleError(record)

    late.module("manyhands._worker.log_set_up").apply(set_up)
    root = logging.getLogger()
    root.handlers.clear()
    root.addHandler(ForwardHandler())


def pickle_record(record: logging.LogRecord, label: str) -> bytes:
    """Pickles a record's attributes; the message is made final, the traceback becomes text.

    The exception itself goes along, too: handlers may ask for it.

    Args:
        record: any log record. It is not changed.
        label: name of the worker.
    """
    import logging

    fields = dict(record.__dict__)
    fields["msg"] = record.getMessage()
    fields["args"] = None
    fields["processName"] = label
    error = record.exc_info[1] if record.exc_info else None
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields["exc_info"] = None if error is None else _dump_exception(error, label)
    try:
        return _dumps(fields)
    except Exception:
        # Something a caller has put in `extra`; it is shown as text.
        return _dumps({name: _plain(value) for name, value in fields.items()})


def _dump_exception(error: BaseException, label: str) -> bytes:
    data: bytes = late.module("manyhands._pickle.remote_error").dump_exception(error, label)
    return data


def _dumps(plain: object) -> bytes:
    data: bytes = late.module("_pickle").dumps(plain, 5)
    return data


def _plain(value: object) -> object:
    return value if isinstance(value, str | bytes | int | float | None) else repr(value)


def forward_warnings(pipe: ReportPipe) -> None:
    """Send the warnings that the worker's filters let through to the parent."""
    import warnings

    show_here = warnings.showwarning

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is None:
            told = (str(message), category, filename, lineno, _module_of(filename))
            try:
                payload = late.module("manyhands._pickle.pickling").dumps_in_band(told)
            except Exception:  # a category that only this worker knows
                payload = _dumps((told[0], UserWarning, *told[2:]))
            if pipe.send(WARNING, payload):
                return
        show_here(message, category, filename, lineno, file, line)

    warnings.showwarning = showwarning


def _module_of(filename: str) -> str | None:
    """Name of the module that a warning is about: the one by which filters may select it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != filename:
        frame = frame.f_back
    return None if frame is None else frame.f_globals.get("__name__")
