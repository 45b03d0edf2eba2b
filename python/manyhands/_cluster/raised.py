"""What a task on another machine has raised, as an exception of this program.

A message never has anything imported: classes are found among what this program has imported.
"""

from __future__ import annotations

import sys
from concurrent.futures import CancelledError
from typing import Any, Final

from manyhands._errors.base import ManyhandsError, RemoteTraceback, TaskTimeout
from manyhands._errors.cluster import RemoteError

__all__ = ["raised", "unreadable"]

_TIME_LIMITS: Final = ("TimeLimitExceeded", "SoftTimeLimitExceeded")


def raised(
    task: str, state: str, module: str | None, name: str, arguments: Any, traceback: str | None
) -> BaseException:
    """Return the exception that a failed task's answer tells.

    Args:
        task: name of the task.
        state: how the task has ended, such as ``"FAILURE"``.
        module: the module of the exception's class, if the worker has said so.
        name: the qualified name of the class.
        arguments: those of the exception; a list, or a text.
        traceback: where it was raised, as text.

    Example:
        >>> raised("shop.price", "FAILURE", "builtins", "KeyError", ["apple"], None)
        KeyError('apple')
    """
    args = tuple(arguments) if isinstance(arguments, list | tuple) else (arguments,)
    error = _of_workers(task, state, name, args) or _known(module, name, args)
    if error is None:
        kind = f"{module}.{name}" if module else name
        shown = ", ".join(map(repr, args))
        why = f"this program has not imported {kind}"
        if module == "builtins":
            why = "that would end what asks for the result, too, so this stands for it"
        text = f"task {task!r} has raised {name}({shown}); {why}"
        error = RemoteError(text, kind, args)
    if traceback:
        error.__cause__ = RemoteTraceback(f'\n"""\n{traceback}"""')
    return error


def _of_workers(task: str, state: str, name: str, args: tuple[Any, ...]) -> BaseException | None:
    """Return the exception for what workers say of tasks that they could not run to their end."""
    if state == "REVOKED":
        return CancelledError(f"task {task!r} was revoked: {_text(args)}")
    if name in _TIME_LIMITS:
        return TaskTimeout(f"task {task!r} was stopped: {_limit(name, args)}")
    if name == "WorkerLostError":
        from manyhands._errors.worker_died import WorkerDied

        return WorkerDied(_text(args) or f"the worker of task {task!r} died", task)
    if name == "NotRegistered":
        kind = "celery.exceptions.NotRegistered"
        text = f"no worker of that queue has a task called {task!r}: import its module there"
        return RemoteError(text, kind, args)
    return None


def _limit(name: str, args: tuple[Any, ...]) -> str:
    """Return what a worker says of a time limit: its seconds, words of ours, or nothing."""
    kind = "soft time limit" if name.startswith("Soft") else "time limit"
    match args:
        case [int() | float() as seconds, *_]:
            return f"it ran longer than its {kind} of {seconds} s"
        case [str() as words, *_] if " " in words:
            return words
    return f"it ran longer than its {kind}"


def _known(module: str | None, name: str, args: tuple[Any, ...]) -> BaseException | None:
    found: Any = sys.modules.get(module or "builtins")
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return None
    try:
        error = found(*args)
    except Exception:
        # One that takes other arguments than it keeps.
        try:
            error = found.__new__(found, *args)
            error.args = args
        except Exception:
            return None
    return error if isinstance(error, BaseException) else None


def _text(args: tuple[Any, ...]) -> str:
    return ", ".join(map(str, args))


def unreadable(task: str, why: str) -> ManyhandsError:
    """Return the error for an answer that cannot be read."""
    return ManyhandsError(f"the answer to task {task!r} cannot be read: {why}")
