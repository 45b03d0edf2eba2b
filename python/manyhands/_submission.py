"""How pieces of a map's input become tasks, and their futures results."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import replace
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from manyhands._chunk import Function, Outcome, Placed, ShippedFunction, call_shipped, not_the_end
from manyhands._function_key import is_kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manyhands._executor import Executor, TaskOptions
    from manyhands._future import Future

__all__ = ["Submission", "named", "taken", "wait_done", "withdraw"]

T = TypeVar("T")

# The pickle of a function that is larger than this is placed in shared memory, once, instead of
# going with each chunk; its buffers always are. With no room for them they go with each chunk.
_SHIPPED_LIMIT: Final = 1 << 16

_map_numbers = count()


class Submission(Generic[T]):
    """How pieces of the input become tasks.

    Args:
        executor: where they run.
        options: how they run; a per-task timeout makes each item its own task.
        fn: the function.
        star: whether items are tuples of arguments.
        single: whether each item is to be its own task.
    """

    def __init__(
        self,
        executor: Executor,
        options: TaskOptions,
        fn: Callable[..., T],
        star: bool,
        single: bool,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"map() needs a callable, got {type(fn).__name__}")
        self.single = single or options.timeout is not None
        self._executor = executor
        self._options = options
        self._is_plain = not options.is_special()
        self._fn = fn
        self._star = star
        self._shipped: Function[T] = fn
        self._is_shipped = False
        if not self.single:
            self._options = named(options, fn)
        # One that is pickled for each task would be so for each item.
        if executor._kind == "process" and not (self.single and is_kept(fn)):
            self._shipped = _shipped(fn)
            self._is_shipped = self._shipped is not fn
            self._options = named(options, fn)

    def submit(self, items: Sequence[Any]) -> Future[Any]:
        """Submit one piece; with `single` it holds one item."""
        if not self.single:
            return self._executor._map_chunk_submit(self._options, self._shipped, items, self._star)
        args = tuple(items[0]) if self._star else (items[0],)
        if self._is_shipped:
            shipped_args = (self._shipped, *args)
            return self._executor._submit(self._options, call_shipped, shipped_args, {})
        if self._is_plain:
            return self._executor.submit(self._fn, *args)
        return self._executor._submit(self._options, self._fn, args, {})

    def let_go(self) -> None:
        """Forget the executor: everything has been submitted, and its user may drop it."""
        del self._executor

    def outcome(self, value: Any) -> Outcome[T]:
        """Return the results in a future's `value`."""
        if self.single:
            return [value], None, 0.0
        return value  # type: ignore[no-any-return]


def named(options: TaskOptions, fn: Callable[..., Any]) -> TaskOptions:
    """Return `options` with the name of `fn`, for a task that calls it among other things."""
    if options.name is not None:
        return options
    name = getattr(fn, "__qualname__", None)
    return replace(options, name=name if isinstance(name, str) else type(fn).__qualname__)


def _shipped(fn: Callable[..., T]) -> Function[T]:
    from manyhands._pickling import dumps

    data, buffers = dumps(fn, "fn")
    # A key of its own for each map: what the function keeps in itself must not outlive the map.
    key = next(_map_numbers).to_bytes(8)
    if not buffers and len(data) <= _SHIPPED_LIMIT:
        return ShippedFunction(key, data)
    try:
        large = Placed(memoryview(data)) if len(data) > _SHIPPED_LIMIT else data
        return ShippedFunction(key, large, [Placed(buffer.raw()) for buffer in buffers])
    except MemoryError:
        return fn


def wait_done(future: Future[Any], seconds: float | None) -> bool:
    """Wait until `future` is done, or `seconds` have passed; return whether it is done."""
    try:
        future.exception(seconds)
    except (TimeoutError, CancelledError):
        pass
    return future.done()


def withdraw(futures: Iterable[Future[Any]]) -> None:
    """Cancel those of `futures` that have not begun; what runs is left to finish."""
    for future in futures:
        future._withdraw()


def taken(future: Future[T], deadline: float | None) -> T:
    """Return the result; once the deadline is past, raise TimeoutError and withdraw the future."""
    try:
        if deadline is None:
            return future.result()
        return future.result(deadline - monotonic())
    except StopIteration as error:
        raise not_the_end(error, "the function") from error
    finally:
        if not future.done():
            withdraw((future,))
        del future
