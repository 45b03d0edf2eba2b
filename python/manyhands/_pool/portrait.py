"""What executors look like, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyhands._task.options import TaskOptions
    from manyhands._task.target import Target

__all__ = ["portrait", "view_portrait"]


def portrait(executor: Target, workers: int, tasks: int) -> str:
    """Return the `repr` of an executor.

    Args:
        executor: the executor.
        workers: how many it has at this moment, beside the most that it may have.
        tasks: how many of its tasks have not ended.
    """
    kind = type(executor)
    state = ""
    if getattr(executor, "_broken", False):
        state = " broken"
    elif executor._is_shut_down():
        state = " shut down"
    return (
        f"<{kind.__module__}.{kind.__qualname__} workers={workers}/{executor._max_workers}"
        f" tasks={tasks}{state} at {id(executor):#x}>"
    )


def view_portrait(executor: Target, options: TaskOptions) -> str:
    """Return the `repr` of a view: its executor, and those options that are not as usual."""
    usual = options._field_defaults
    changes = {name: value for name, value in options._asdict().items() if value != usual[name]}
    said = ", ".join(f"{name}={value!r}" for name, value in changes.items())
    return f"<{repr(executor)[1:-1]} with {said or 'no options'}>"
