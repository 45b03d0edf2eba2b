"""What a worker has to know about the parent; collected there, applied in zygote and worker.

The settings are one plain dict of builtin types, so that the zygote can load them without importing
anything of the user's; by `marshal`, so that neither it nor the parent need import `_pickle` for
it. What needs user code to load - the initializer - is a pickle within, which only workers open.
"""

from __future__ import annotations

import builtins
import faulthandler
import marshal
import os
import sys
from typing import TYPE_CHECKING, Any

from manyhands._interpreter import import_watch
from manyhands._interpreter.directory import working_directory
from manyhands._interpreter.warning_filters import effective
from manyhands._worker import log_set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypedDict

    # Python would take longer to make this class than all else here takes.
    class Settings(TypedDict):
        """The content of a set-up block."""

        sys_path: list[str]
        cwd: str | None
        argv: list[str]
        env: dict[str, str | None]  # None: to be unset
        limits: tuple[int, int]  # see `limits`
        hash_seed: str | None  # of all processes that the program starts; None: the user has set it
        preload: list[str]
        logging: log_set_up.LogSetUp
        faulthandler: bool  # shows the stacks of a worker that crashes
        # Of each the module of its category, and itself; one that is not plain as a pickle, with
        # one of the category in it.
        warning_filters: list[tuple[str, Filter | bytes]] | None
        authkey: bytes  # multiprocessing's
        tracker_fd: int | None  # of multiprocessing's resource tracker
        setup: bytes | None  # pickle of (initializer, initargs, finalizer)
        max_tasks_per_child: int  # 0: no limit
        max_memory_per_child: int  # bytes resident; 0: no limit


__all__ = ["Filter", "collect", "dump", "limits"]

# One of `warnings.filters`: action, message, name of a builtin category, module, line.
Filter = tuple[str, str | None, str, str | None, int]

# Also another version of Python reads this one, and it has no back references, for which objects
# would have to be looked up.
_MARSHAL_VERSION = 2
_PLAIN = {str, type(None)}

_chosen_key: dict[str, bytes] = {}


def collect(
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    finalizer: Callable[[], object] | None = None,
    preload: Sequence[str] = (),
    env: dict[str, str | None] | None = None,
    hash_seed: str | None = None,
    max_tasks_per_child: int | None = None,
    max_memory_per_child: int | None = None,
) -> tuple[Settings, list[int]]:
    """Describe this process, the parent, to the workers of a pool that is about to start.

    Args:
        initializer: called with ``initargs`` in every worker before its first task, or None.
        initargs: its arguments; multiprocessing's locks and queues may be among them.
        finalizer: called in every worker before it ends, or None.
        preload: names of modules that the zygote imports before it forks workers.
        env: environment variables to set (or with None, to unset) in the zygote before it
            imports anything.
        hash_seed: what the zygote is started with as ``PYTHONHASHSEED``, if the user did not.
        max_tasks_per_child: a worker ends after so many tasks; None: never.
        max_memory_per_child: a worker ends after the task that leaves it with more resident
            memory, in bytes; None: never.

    Returns:
        The settings, for `dump`, and the file descriptors that the zygote must inherit
        under the same numbers.

    Raises:
        TypeError, pickle.PicklingError, RuntimeError: the initializer, its arguments or the
            finalizer cannot be pickled; as ``pickling.dumps_for_spawn``.

    Example:
        >>> collect(preload=["json"])[0]["preload"]
        ['json']
    """
    setup: bytes | None = None
    inherit: list[int] = []
    if initializer is not None or finalizer is not None:
        from manyhands._pickle import pickling

        setup, inherit = pickling.dumps_for_spawn((initializer, initargs, finalizer))
    tracker_fd = _tracker_fd()
    if tracker_fd is not None:
        inherit.append(tracker_fd)
    wanted = list(preload)
    # Whoever has pickled by value will do so again: better imported once than in every worker.
    if "manyhands._pickle.by_value" in sys.modules:
        wanted.insert(0, "manyhands._pickle.by_value")
    settings: Settings = {
        "sys_path": [path for path in sys.path if isinstance(path, str)],
        "cwd": working_directory(),
        "argv": list(sys.argv),
        "env": dict(env or {}),
        "limits": limits(),
        "hash_seed": hash_seed,
        "preload": wanted,
        "logging": log_set_up.collect(),
        "faulthandler": faulthandler.is_enabled(),
        "warning_filters": _warning_filters(),
        "authkey": _authkey(),
        "tracker_fd": tracker_fd,
        "setup": setup,
        # What is more than a worker can count to is no limit for it.
        "max_tasks_per_child": min(max_tasks_per_child or 0, sys.maxsize),
        "max_memory_per_child": min(max_memory_per_child or 0, sys.maxsize),
    }
    return settings, sorted(set(inherit))


def dump(settings: Settings) -> bytes:
    """Write settings for the zygote.

    Example:
        >>> marshal.loads(dump(collect()[0])) == collect()[0]
        True
    """
    try:
        return marshal.dumps(dict(settings), _MARSHAL_VERSION)
    except ValueError:  # a path in ``sys.path``, say, that is more than a text
        from _pickle import dumps

        from manyhands._pickle.pickling import PROTOCOL

        return dumps(settings, PROTOCOL)


def limits() -> tuple[int, int]:
    """Return how deep calls may go here, and how many digits an int may have as a text.

    A program changes them for what its functions need, wherever they run.
    """
    return sys.getrecursionlimit(), sys.get_int_max_str_digits()


def _warning_filters() -> list[tuple[str, Filter | bytes]] | None:
    if "warnings" not in sys.modules:
        return None
    filters: list[tuple[str, Filter | bytes]] = []
    for item in effective():
        try:
            filters.append((item[2].__module__, _dump_filter(item)))
        except Exception:
            continue  # a category that cannot travel: no task can raise it either
    return filters


def _dump_filter(item: tuple[Any, ...]) -> Filter | bytes:
    action, message, category, module, line = item
    name = category.__name__
    if getattr(builtins, name, None) is category and {type(message), type(module)} <= _PLAIN:
        return action, message, name, module, line
    from _pickle import dumps

    from manyhands._pickle import pickling

    # Its class apart: the usual filters name ``__main__`` in a text, and where that stands in a
    # pickle, it is taken for one of code, to be rebuilt by value, for which much is imported.
    parts = (action, message, pickling.dumps_in_band(category), module, line)
    return dumps(parts, pickling.PROTOCOL)


def _authkey() -> bytes:
    """Return the key by which multiprocessing's processes know each other.

    If multiprocessing has not been imported yet, it is given a key now, for when it will be.
    """
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        return bytes(process.current_process().authkey)
    made = os.urandom(32)
    # In one step: pools that threads start at the same time have the same key.
    key = _chosen_key.setdefault("key", made)
    if key is made:
        import_watch.after_import("multiprocessing.process", _use_chosen_key)
    return key


def _use_chosen_key() -> None:
    sys.modules["multiprocessing.process"].current_process().authkey = _chosen_key["key"]


def _tracker_fd() -> int | None:
    """Descriptor of multiprocessing's resource tracker, if one runs or may be needed.

    A worker that started a tracker of its own would have shared memory unlinked under the parent.
    """
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is None:
        return None
    if "multiprocessing.shared_memory" in sys.modules:
        # What workers make of it must outlive them.
        tracker.ensure_running()
    descriptor = tracker._resource_tracker._fd
    return descriptor if isinstance(descriptor, int) else None
