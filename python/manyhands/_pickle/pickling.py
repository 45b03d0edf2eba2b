"""Objects to bytes and back, between the parent and its workers.

Whatever is importable is pickled by reference with the C pickler, protocol 5, its big buffers kept
apart. Whatever a worker could not import - lambdas, closures, and everything defined in
``__main__``, be it a script, a notebook or ``python -c`` - is pickled by value with cloudpickle.

    >>> data, buffers = dumps([1, 2, 3])
    >>> loads(data, buffers)
    [1, 2, 3]
"""

from __future__ import annotations

import _pickle as pickle  # what `pickle` is made of; that itself imports much

from manyhands._interpreter import late
from manyhands._pickle import exception_parts, findable, shared_globals

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

__all__ = ["advise", "dumps", "dumps_for_spawn", "dumps_in_band", "loads"]

PROTOCOL = 5

# A definition of `__main__` that was pickled by reference leaves its module's name in one of these
# two forms (protocols 4 and 5, and the older ones inside nested pickles). A plain text that merely
# mentions __main__ matches neither, unless it is that very word.
_MAIN_BY_NAME = b"\x8c\x08__main__"
_MAIN_BY_GLOBAL = b"c__main__\n"
# Another name of `__main__`, which multiprocessing makes, and under which pickle finds functions
# that do not say where they are from.
_MAIN_ALIAS = b"__mp_main__"
# A multiprocessing Connection pickles without complaint as a bare descriptor number, which means
# another file in another process: its own reducer, which the slow way knows, hands over the file.
_CONNECTION = b"\x8c\x1amultiprocessing.connection"


def dumps(obj: object, place: str = "") -> tuple[bytes, list[pickle.PickleBuffer]]:
    """Pickles an object so that a worker (or, from a worker, the parent) can load it.

    Args:
        obj: any picklable object; functions and classes of ``__main__``, lambdas and closures too.
        place: what the object is called in error messages, for example ``"args"``.

    Returns:
        The pickle, and the buffers that were kept out of it, in order (arrays and other objects
        that support protocol 5). They are views of the object's own memory, not copies.

    Raises:
        TypeError, pickle.PicklingError: as the standard library does; the message names the
            offending object and where in ``obj`` it sits.
        RuntimeError: for a lock or queue of multiprocessing, which travels only in ``initargs``.

    Example:
        >>> dumps((1, "two"))[1]
        []
    """
    if shared_globals.has_strangers():
        return _dumps_by_value(obj, place)
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(obj, PROTOCOL, buffer_callback=buffers.append)
    except Exception:
        pass  # by value it may work; if not, that attempt's error is the one to tell
    else:
        if _holds_for_others(data):
            return data, buffers
    return _dumps_by_value(obj, place)


def loads(data: bytes | bytearray | memoryview, buffers: Iterable[Any] = ()) -> Any:
    """Load what ``dumps`` has pickled.

    Exceptions in it are made even if their classes cannot make them.

    Args:
        data: the pickle.
        buffers: the buffers that were kept apart, in the same order.

    Raises:
        Exception: whatever the pickled objects raise while they are unpickled, for example
            ModuleNotFoundError for a module that cannot be imported here.

    Example:
        >>> loads(dumps("hand")[0])
        'hand'
    """
    try:
        return exception_parts.loads(data, buffers)
    except ModuleNotFoundError as error:
        advise(error)
        raise


def advise(error: ModuleNotFoundError) -> None:
    """Add to the error of an object from another process what can be done about it."""
    error.add_note(
        f"an object from another process needs the module {error.name!r}, which cannot be found "
        "here: make it importable (with PYTHONPATH, for example), or have it sent along with "
        f"mh.register_by_value({error.name})"
    )


def _holds_for_others(data: bytes) -> bool:
    """Whether a plain pickle means the same in another process."""
    return (
        _MAIN_BY_NAME not in data
        and _MAIN_BY_GLOBAL not in data
        and _MAIN_ALIAS not in data
        and _CONNECTION not in data
        and not findable.names_by_value(data)
    )


def dumps_in_band(obj: object, place: str = "") -> bytes:
    """As ``dumps``, with every buffer copied into the pickle itself.

    Args:
        obj: any picklable object.
        place: what the object is called in error messages.

    Raises:
        TypeError, pickle.PicklingError, RuntimeError: as ``dumps``.

    Example:
        >>> loads(dumps_in_band({"a": 1}))
        {'a': 1}
    """
    try:
        data = b"" if shared_globals.has_strangers() else pickle.dumps(obj, PROTOCOL)
    except Exception:
        pass  # as in `dumps`
    else:
        if data and _holds_for_others(data):
            return data
    by_value = _by_value()
    try:
        in_band: bytes = by_value.dumps_in_band(obj)
        return in_band
    except Exception as error:
        _raise_explained(error, obj, place)


def _dumps_by_value(obj: object, place: str) -> tuple[bytes, list[pickle.PickleBuffer]]:
    by_value = _by_value()
    try:
        apart: tuple[bytes, list[pickle.PickleBuffer]] = by_value.dumps(obj)
        return apart
    except Exception as error:
        _raise_explained(error, obj, place)


def _raise_explained(error: Exception, obj: object, place: str) -> NoReturn:
    from manyhands._pickle import pickling_error

    explained = pickling_error.explain(error, obj, place)
    try:
        if explained is error:
            raise error  # as its own cause, it would have no end for whoever follows causes
        raise explained from error
    finally:
        del error, explained  # their tracebacks keep this frame


def _by_value() -> Any:
    # Where a program runs out of descriptors, this may be what it needs to hear of it.
    return late.module("manyhands._pickle.by_value")


def dumps_for_spawn(obj: object) -> tuple[bytes, list[int]]:
    """Pickles what a process gets when it starts: also multiprocessing's locks, queues and pipes.

    These can be handed only to a process that is being started, because their file descriptors
    must be inherited.

    Args:
        obj: the object, usually ``(initializer, initargs, finalizer)``.

    Returns:
        The pickle (no buffers apart), and the file descriptors that the new process must inherit
        under the same numbers. They belong to the pickled objects, which must be kept alive until
        then.

    Raises:
        RuntimeError: for a lock or queue made with multiprocessing's *fork* context.
        TypeError, pickle.PicklingError: as ``dumps``.

    Example:
        >>> dumps_for_spawn(("anything", 1))[1]
        []
    """
    from multiprocessing import context

    spawning = _Spawning()
    previous = context.get_spawning_popen()
    context.set_spawning_popen(spawning)  # type: ignore[arg-type]
    try:
        data = dumps_in_band(obj, "initargs")
    finally:
        context.set_spawning_popen(previous)
    return data, sorted(set(spawning.descriptors))


class _Spawning:
    """Stands in for multiprocessing's Popen: notes which descriptors the child must inherit."""

    method = "spawn"

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return descriptor

    @staticmethod
    def DupFd(descriptor: int) -> Inherited:
        return Inherited(descriptor)


class Inherited:
    """A file descriptor that the receiving process has inherited under the same number."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def detach(self) -> int:
        """Give the descriptor away; the caller closes it."""
        return self.descriptor
