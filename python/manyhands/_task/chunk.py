"""Several calls as one task: the part of a map that runs in the worker.

Imported by workers, so it imports next to nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from threading import RLock
from time import perf_counter
from typing import Any, Generic, TypeAlias, TypeVar, cast

from manyhands import _native
from manyhands._errors.task_cancelled import TaskCancelled
from manyhands._task.item_note import NO_ITEM, sketch
from manyhands._task.queued import queued_seconds

__all__ = [
    "Cost",
    "Failure",
    "Function",
    "Outcome",
    "Placed",
    "ShippedFunction",
    "arrive",
    "call_shipped",
    "is_returnable",
    "not_the_end",
    "run_chunk",
    "run_metered_chunk",
]

T = TypeVar("T")


class Failure:
    """The exception that an item of a chunk has raised; it pickles whatever the exception is.

    Attributes:
        exception: what was raised.
        task: name of the function.
        shown: the item in a few words, or nothing.
    """

    __slots__ = ("exception", "shown", "task")

    def __init__(self, exception: BaseException, task: str, shown: str = "") -> None:
        self.exception = exception
        self.task = task
        self.shown = shown

    def let_go(self) -> BaseException:
        """Return the exception, to be raised, and keep it no longer.

        Its traceback keeps the frames that know this object, and what they know: arguments, say.
        """
        exception = self.exception
        del self.exception
        return exception

    def __reduce__(self) -> tuple[object, ...]:
        from manyhands._pickle.remote_error import dump_exception

        return (_load_failure, (dump_exception(self.exception, self.task), self.task, self.shown))


def _load_failure(data: bytes, task: str, shown: str) -> Failure:
    from manyhands._pickle.remote_error import load_exception

    return Failure(load_exception(data), task, shown)


class _Parcel(list[Any]):
    """Results that pickle although some of them do not: a failure takes the place of each such."""

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        from manyhands._pickle.pickling import dumps

        try:
            data, buffers = dumps(list(self), "the results")
        except Exception:
            data, buffers = dumps([_or_failure(result) for result in self])
        return (_open_parcel, (data, *buffers))


def _open_parcel(data: bytes, *buffers: Any) -> list[Any]:
    from manyhands._pickle.pickling import loads

    return loads(data, buffers)  # type: ignore[no-any-return]


def _or_failure(result: object) -> object:
    from manyhands._pickle.pickling import dumps

    try:
        dumps(result, "result")
    except Exception as error:
        return Failure(error, "")
    return result


class Placed:
    """A buffer that lies in shared memory, for each worker to copy once."""

    __slots__ = ("_address", "_block", "_length", "_read_only")

    def __init__(self, buffer: memoryview) -> None:
        self._block: _native.SharedBlock | None = _native.share_buffer(buffer.toreadonly())
        self._length = self._block.length
        self._read_only = buffer.readonly
        self._address: tuple[Any, ...] = ()

    def __getstate__(self) -> tuple[object, ...]:
        # Asking for the address has the task that it goes to keep the block.
        assert self._block is not None
        return self._block.address, self._length, self._read_only

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._block = None
        self._address, self._length, self._read_only = state

    def copy(self) -> memoryview:
        """Return the content, as memory of this process's own."""
        block = self._block or _native.open_shared(self._address, self._length)
        own = memoryview(bytearray(block.view(False)))
        return own.toreadonly() if self._read_only else own


class ShippedFunction(Generic[T]):
    """A function pickled once for all the chunks of a map, and unpickled once per worker."""

    __slots__ = ("buffers", "data", "key")

    def __init__(self, key: int, data: bytes | Placed, buffers: Sequence[Placed] = ()) -> None:
        self.key = key
        self.data = data
        self.buffers = buffers

    def __reduce__(self) -> tuple[object, ...]:
        return (arrive, (self.key, self.data, self.buffers))


_native.register_shipped_function(ShippedFunction)


class Cost(float):
    """Seconds by the clock, with those on a CPU, and those ready to run but without one.

    Attributes:
        cpu: on a CPU.
        queued: ready to run, while the CPUs had other work.
        beside: what the process's other threads had of the CPUs in that time.
    """

    __slots__ = ("beside", "cpu", "queued")

    cpu: float
    queued: float
    beside: float

    @classmethod
    def of(cls, seconds: float, cpu: float, queued: float, beside: float) -> Cost:
        """Return what something has cost."""
        cost = cls(seconds)
        cost.cpu, cost.queued, cost.beside = cpu, queued, beside
        return cost

    def __reduce__(self) -> tuple[object, ...]:
        return (Cost.of, (float(self), self.cpu, self.queued, self.beside))


Function: TypeAlias = Callable[..., T] | ShippedFunction[T]
# (results up to a failure, the failure or None, seconds spent in the function). Where exceptions
# are returned, they are among the results, each in a `Failure`.
Outcome: TypeAlias = tuple[list[T], Failure | None, float]

# How many more times an item is tried, after which exceptions, and the seconds to wait before each
# further attempt; the last counts for all that follow.
Trying: TypeAlias = tuple[int, tuple[type[BaseException], ...], Sequence[float]]

# Functions that chunks brought, latest used last; a map needs one, so a few are plenty.
_unpacked: OrderedDict[int, Callable[..., Any]] = OrderedDict()
_unpacked_lock = RLock()
_UNPACKED_LIMIT = 16


def _unpack(shipped: ShippedFunction[T]) -> Callable[..., T]:
    with _unpacked_lock:
        known = _unpacked.get(shipped.key)
        if known is not None:
            _unpacked.move_to_end(shipped.key)
            return known
    from manyhands._pickle.pickling import loads

    data = shipped.data.copy() if isinstance(shipped.data, Placed) else shipped.data
    buffers = [each.copy() for each in shipped.buffers]
    fn = cast("Callable[..., T]", loads(data, buffers))
    with _unpacked_lock:
        fn = _unpacked.setdefault(shipped.key, fn)  # another thread may have been faster
        if len(_unpacked) > _UNPACKED_LIMIT:
            _unpacked.popitem(last=False)
    return fn


def arrive(key: int, data: bytes | Placed, buffers: Sequence[Placed]) -> ShippedFunction[Any]:
    """Take in a function with the arguments of a task, before its context variables are set.

    They are set only where they are known, and it may be this function that brings them along.
    """
    shipped: ShippedFunction[Any] = ShippedFunction(key, data, buffers)
    try:
        _unpack(shipped)
    except Exception:
        pass  # raised again by whoever calls it, where it is the task's error
    return shipped


def call_shipped(shipped: ShippedFunction[T], /, *args: Any) -> T:
    """Call a shipped function on one item."""
    return _unpack(shipped)(*args)


def run_chunk(
    fn: Function[T],
    items: Sequence[Any],
    star: bool,
    retries: int = 0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    return_exceptions: bool = False,
    pauses: Sequence[float] = (),
    stretch: int = 0,
    enough: float = 0.0,
    results: list[T] | None = None,
) -> Outcome[T]:
    """Call `fn` on each of `items` (on ``*item`` with `star`) until one call fails.

    With `return_exceptions` the others go on, and a `Failure` takes the place of the result. With
    `stretch`, it is looked after each so many items whether they have taken `enough` seconds;
    those that are left have no results then. With `results`, to which they are appended, they need
    not be copied.

    Returns:
        ``(results, failure, seconds)``: the results before the failure, the `Failure` or None,
        and the seconds that the calls took.
    """
    function = _unpack(fn) if isinstance(fn, ShippedFunction) else fn
    if results is None:
        results = _Parcel() if return_exceptions else []
    failure = None
    before = len(results)
    trying = (retries, retry_on, pauses)
    began = perf_counter()
    try:
        for first in range(0, len(items), stretch or len(items) or 1):
            part = items[first : first + stretch] if stretch else items
            if return_exceptions:
                _call_all(function, part, star, trying, results)
            elif retries:
                for item in part:
                    results.append(_retried(function, item if star else (item,), trying))
            else:
                _call_each(function, part, star, results)
            if stretch and perf_counter() - began >= enough:
                break
    except BaseException as error:
        if isinstance(error, TaskCancelled):
            raise
        done = len(results) - before
        # Ctrl-C may come after the last item.
        failure = _failure(function, error, items[done] if done < len(items) else NO_ITEM)
    return results, failure, perf_counter() - began


def run_metered_chunk(
    fn: Function[T],
    items: Sequence[Any],
    star: bool,
    retries: int = 0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    return_exceptions: bool = False,
) -> Outcome[T]:
    """As `run_chunk`, with a `Cost` in place of the seconds."""
    queued = queued_seconds()
    before = _native.cpu_times()
    results, failure, seconds = run_chunk(fn, items, star, retries, retry_on, return_exceptions)
    cpu, all_cpu = (now - then for now, then in zip(_native.cpu_times(), before, strict=True))
    cost = Cost.of(seconds, cpu, queued_seconds() - queued, max(0.0, all_cpu - cpu))
    return results, failure, cost


def is_returnable(error: BaseException) -> bool:
    """Say whether an exception is an item's own, and not a demand on the whole program to stop."""
    return not isinstance(error, KeyboardInterrupt | GeneratorExit | TaskCancelled)


def _failure(function: Callable[..., Any], error: BaseException, item: object) -> Failure:
    task = getattr(function, "__qualname__", type(function).__qualname__)
    if isinstance(error, StopIteration):
        error = not_the_end(error, task)
    return Failure(error, task, sketch(item))


def not_the_end(error: StopIteration, task: str) -> RuntimeError:
    """Return the error to raise instead; a StopIteration would end loops that it is not about."""
    stopped = RuntimeError(f"{task} raised StopIteration")
    stopped.__cause__ = error
    return stopped


_PythonFunction: type = type(not_the_end)


def _call_each(
    function: Callable[..., T], items: Sequence[Any], star: bool, results: list[T]
) -> None:
    """Append the result of each call to `results`, up to the first call that fails."""
    if isinstance(function, _PythonFunction):
        # A loop in C would take a StopIteration that the function raises for the end of the items.
        # Written out, `results.append` is an instruction of its own; as a variable it is a call.
        if star:
            for item in items:
                results.append(function(*item))
        else:
            for item in items:
                results.append(function(item))
        return
    # Twice as fast for what is written in C, which leaves no traceback that could be lost.
    before = len(results)
    results.extend(starmap(function, items) if star else map(function, items))
    if len(results) < before + len(items):
        raise StopIteration


def _call_all(
    function: Callable[..., T],
    items: Sequence[Any],
    star: bool,
    trying: Trying,
    results: list[Any],
) -> None:
    """Append the result of each call to `results`, or its failure."""
    for item in items:
        try:
            result: Any = _retried(function, item if star else (item,), trying)
        except BaseException as error:
            if not is_returnable(error):
                raise
            result = _failure(function, error, item)
        results.append(result)


def _retried(function: Callable[..., T], args: Iterable[Any], trying: Trying) -> T:
    arguments = tuple(args)
    retries, retry_on, pauses = trying
    for attempt in range(retries):
        try:
            return function(*arguments)
        except retry_on:
            pass
        if pauses:
            _native.sleep(pauses[min(attempt, len(pauses) - 1)])
    return function(*arguments)
