"""Exceptions on their way from a worker to whoever waits for the task.

The exception itself travels, without those of its attributes that cannot be pickled; if it cannot
be unpickled, an error that tells all about it takes its place, so that a future always ends. The
worker's traceback goes along as text.
"""

from __future__ import annotations

import _pickle as pickle  # what `pickle` is made of; that itself imports much

from manyhands import _native
from manyhands._interpreter import late
from manyhands._pickle import exception_parts, pickling
from manyhands._pickle.constants import is_constant

__all__ = ["dump_exception", "load_exception", "load_raised", "traceback_text"]

_cause = BaseException.__dict__["__cause__"]


def dump_exception(error: BaseException, task: str, problem: BaseException | None = None) -> bytes:
    """Pickles an exception that a task has raised. Never fails.

    Args:
        error: the exception, of any type.
        task: name of the task, for the error that stands in for one that cannot be pickled.
        problem: why it could not be written with its traceback; it goes without, then.

    Returns:
        The pickle, for ``load_exception``.

    Example:
        >>> load_exception(dump_exception(KeyError("k"), "demo"))
        KeyError('k')
    """
    if problem is None or problem is error:
        text = traceback_text(error)
    else:
        text = f"no traceback: {_name_of(type(problem))}"
    try:
        pickled = _dump(error)
        reason = ""
    except BaseException as problem:
        # BaseException: pickling runs the exception's own code, which may even call sys.exit().
        reason = f"{type(problem).__name__}: {_str(problem)}"
        try:
            pickled = pickling.dumps_in_band(type(error))  # that much of it
        except BaseException:
            pickled = b""
    summary = (task, _name_of(type(error)), _repr(error), reason)
    return pickle.dumps((pickled, text, summary), 5)


def _dump(error: BaseException) -> bytes:
    if _is_plain(error):
        return pickling.dumps_in_band(error)
    return _in_form(error)[1]


def _in_form(error: BaseException) -> tuple[object, bytes]:
    """Return the first form of an exception that arrives as an exception, and the pickle of it."""
    form: object = exception_parts.Apart(error)
    try:
        return form, _dump_checked(form)
    except BaseException:  # its own code runs here
        pass
    try:
        return error, _dump_checked(error)  # it knows better, or its reason is the one to tell
    except BaseException:
        form = exception_parts.Rest(error, _can_be_dumped, _form_of_member)
        if not form.lost:
            raise
        return form, _dump_checked(form)


def _form_of_member(error: BaseException) -> object:
    """Return what a member of a group is pickled as: itself, or a description of it."""
    try:
        return _in_form(error)[0]
    except BaseException as problem:
        from manyhands._errors.base import ManyhandsError

        reason = f"{type(problem).__name__}: {_str(problem)}"
        return ManyhandsError(_in_words(_name_of(type(error)), _repr(error), reason))


def _can_be_dumped(obj: object) -> bool:
    try:
        pickling.dumps_in_band(obj)
    except BaseException:  # its own code runs here
        return False
    return True


def _dump_checked(error: object) -> bytes:
    pickled = pickling.dumps_in_band(error)
    copy = pickling.loads(pickled)
    if not isinstance(copy, BaseException):
        raise TypeError(f"it is pickled as {_repr(copy)}")
    return pickled


def load_exception(data: bytes | memoryview) -> BaseException:
    """Make the exception that ``dump_exception`` has pickled.

    Its ``__cause__`` is a ``RemoteTraceback`` with the worker's traceback. Where the exception
    cannot be unpickled, a ``ManyhandsError`` tells its type, its repr and why. Never fails.

    Args:
        data: what ``dump_exception`` returned.

    Example:
        >>> error = load_exception(dump_exception(ValueError("no"), "demo"))
        >>> "ValueError: no" in str(error.__cause__)
        True
    """
    from manyhands._errors.base import RemoteTraceback

    pickled, text, (task, kind, shown, reason) = pickle.loads(data)
    error: BaseException | None = None
    raised = None
    if pickled:
        try:
            # It may have to be imported first.
            loaded = _native.lend_descriptor(pickling.loads, pickled)
            if isinstance(loaded, BaseException):
                error = loaded
            elif reason:
                raised = loaded  # the class alone could be pickled
            else:
                reason = f"it is pickled as {_repr(loaded)}"
        except BaseException as problem:  # its own code runs here, too
            reason = f"{type(problem).__name__}: {_str(problem)}"
    if error is None:
        error = _stand_in(task, kind, shown, reason)
    # Past what the exception's class does to assignments: a frozen one would refuse.
    cause = RemoteTraceback(f'\n"""\n{text}"""')
    cause.kind = raised
    _cause.__set__(error, cause)
    return error


def load_raised(data: memoryview, _buffers: object) -> BaseException:
    """Make the exception of a pickle in shared memory, which never has buffers apart."""
    return load_exception(bytes(data))


def _stand_in(task: str, kind: str, shown: str, reason: str) -> BaseException:
    from manyhands._errors.base import ManyhandsError

    return ManyhandsError(
        f"task {task!r} raised {_in_words(kind, shown, reason)}; "
        "the worker's traceback is this error's __cause__"
    )


def _in_words(kind: str, shown: str, reason: str) -> str:
    return f"{kind}, which cannot be sent ({reason}): {shown}"


def _is_plain(error: BaseException) -> bool:
    """Whether an exception surely survives: a builtin one whose arguments are constants."""
    return type(error).__module__ == "builtins" and not error.__dict__ and is_constant(error.args)


def traceback_text(error: BaseException) -> str:
    """Show an exception as Python does, or as well as can be. Never fails.

    Example:
        >>> traceback_text(ValueError("no"))
        'ValueError: no\\n'
    """
    try:
        # Source files are read for it.
        text: str = _native.lend_descriptor(_format, error)
        return text
    except BaseException as problem:
        # There is too little memory, or a __str__ or __cause__ of the task's own making raises.
        return _plain_traceback(error, problem)


def _format(error: BaseException) -> str:
    return "".join(late.module("traceback").format_exception(error))


def _plain_traceback(error: BaseException, problem: BaseException) -> str:
    lines = ["Traceback (most recent call last):\n"]
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}\n')
        step = step.tb_next
    lines.append(f"{_name_of(type(error))}: {_str(error)}\n")
    lines.append(f"(cut short: {_name_of(type(problem))} while it was made)\n")
    return "".join(lines)


def _name_of(kind: type) -> str:
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _repr(obj: object) -> str:
    try:
        text = repr(obj)
    except BaseException:
        text = object.__repr__(obj)
    return text if len(text) <= 1000 else text[:997] + "..."


def _str(obj: object) -> str:
    try:
        return str(obj)
    except BaseException:
        return object.__repr__(obj)
