"""How pieces of a map's input become tasks, and their futures results."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, CancelledError
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from manyhands._future.future import Future
from manyhands._pickle.function_key import is_kept
from manyhands._task.chunk import (
    Failure,
    Function,
    Outcome,
    Placed,
    ShippedFunction,
    call_shipped,
    is_returnable,
    not_the_end,
    run_chunk,
    run_metered_chunk,
)
from manyhands._task.item_note import NO_ITEM, note_items, sketch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manyhands._task.options import TaskOptions
    from manyhands._task.target import Target

__all__ = ["Submission", "named", "opened", "outcome_of", "taken", "wait_done", "withdraw"]

T = TypeVar("T")

# The pickle of a function that is larger than this is placed in shared memory, once, instead of
# going with each chunk; its buffers always are. With no room for them they go with each chunk.
_SHIPPED_LIMIT: Final = 1 << 16

_map_numbers = count()


class Submission(Generic[T]):
    """How pieces of the input become tasks.

    Args:
        executor: where they run.
        options: how they run; with a timeout or pauses each item is its own task.
        fn: the function.
        star: whether items are tuples of arguments.
        single: whether each item is its own task.
        return_exceptions: whether an item's exception takes the place of its result.
        metered: whether outcomes say what the items have cost, except where they are `single`.
    """

    def __init__(
        self,
        executor: Target,
        options: TaskOptions,
        fn: Callable[..., T],
        star: bool,
        single: bool,
        return_exceptions: bool = False,
        metered: bool = False,
    ) -> None:
        if not (callable(fn) or (executor._kind.names_functions and isinstance(fn, str))):
            raise TypeError(f"map() needs a callable, got {type(fn).__name__}")
        self.single = single or executor._kind.awaits or options.is_per_item()
        self.return_exceptions = return_exceptions
        self.kind = executor._kind.name
        self._run = run_metered_chunk if metered else run_chunk
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
        if executor._kind.ships_functions and not (self.single and is_kept(fn)):
            self._shipped = _shipped(fn)
            self._is_shipped = self._shipped is not fn
            self._options = named(options, fn)

    def submit(self, items: Sequence[Any]) -> Future[Any]:
        """Submit one piece; with `single` it holds one item."""
        if not self.single:
            return _submit_chunk(
                self._executor,
                self._options,
                self._run,
                self._shipped,
                items,
                self._star,
                self.return_exceptions,
            )
        args = tuple(items[0]) if self._star else (items[0],)
        if self._is_shipped:
            shipped_args = (self._shipped, *args)
            return self._executor._submit(self._options, call_shipped, shipped_args, {})
        if self._is_plain:
            return self._executor.submit(self._fn, *args)
        return self._executor._submit(self._options, self._fn, args, {})

    def warm_up(self) -> Future[Any]:
        """Submit a task that does nothing but load the function, with what its module imports."""
        return _submit_chunk(
            self._executor, self._options, run_chunk, self._shipped, (), self._star, False
        )

    def submit_apart(
        self, items: Sequence[Any], error: Exception, first: int
    ) -> Iterator[Future[Any]]:
        """Submit items one by one, since `error` has come of submitting them together.

        One that cannot be submitted has a future that fails with the reason.

        Args:
            items: the items.
            error: what submitting them has raised.
            first: the place of the first of them in the input.

        Raises:
            Exception: the error of an item, where exceptions end the map; or `error`, if it is not
                for one of the items to answer for.
        """
        if _is_refusal(error) or not self.return_exceptions:
            try:
                self.refuse(items, error, first)
            finally:
                del error  # as there
        for index in range(len(items)):
            one = items[index : index + 1]
            try:
                if len(items) == 1:
                    raise error
                future = self.submit(one)
            except Exception as problem:
                if _is_refusal(problem):
                    raise
                future = Future()
                future.set_exception(self._explained(one, problem, first + index))
            yield future

    def refuse(self, items: Sequence[Any], error: Exception, first: int) -> NoReturn:
        """Raise that the items cannot be submitted; arguments as for `submit_apart`."""
        try:
            raise self._explained(items, error, first)
        finally:
            del error  # if it is that one, its traceback keeps this frame

    def _explained(self, items: Sequence[Any], error: Exception, first: int) -> Exception:
        """Return `error` in terms of the map whose items could not be submitted.

        A task has arguments of its own, in which the items are, and of which users know nothing.
        """
        if _is_refusal(error) or not self._executor._kind.ships_functions:
            return error
        from manyhands._pickle.pickling import dumps

        for place, item in enumerate(items, first):
            try:
                dumps(item, "the item")
            except Exception as problem:
                note_items(problem, place, 1, sketch(item))
                problem.__suppress_context__ = True  # says the same of the task
                return problem
        return error

    def let_go(self) -> None:
        """Forget the executor: everything has been submitted, and its user may drop it."""
        del self._executor


def _is_refusal(error: Exception) -> bool:
    """Say whether an executor takes no tasks at all."""
    if isinstance(error, BrokenExecutor):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("cannot schedule new futures")


def named(options: TaskOptions, fn: Callable[..., Any]) -> TaskOptions:
    """Return `options` with the name of `fn`, for a task that calls it among other things."""
    if options.name is not None:
        return options
    name = getattr(fn, "__qualname__", None)
    return options._replace(name=name if isinstance(name, str) else type(fn).__qualname__)


def _shipped(fn: Callable[..., T]) -> Function[T]:
    from manyhands._pickle.pickling import dumps

    data, buffers = dumps(fn, "fn")
    # A key of its own for each map: what the function keeps in itself must not outlive the map.
    key = next(_map_numbers)
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


def outcome_of(
    future: Future[Any],
    single: bool,
    first: int,
    count: int,
    return_exceptions: bool,
    deadline: float | None = None,
    item: Any = NO_ITEM,
) -> Outcome[Any]:
    """Wait for a piece of a map and return its outcome; exceptions say for which items they are.

    A task that failed as a whole has an outcome of no results and that failure.

    Args:
        future: the piece's.
        single: whether its result is that of its only item.
        first: the place of its first item in the input.
        count: how many items it has.
        return_exceptions: whether exceptions take the places of results.
        deadline: when to give up waiting, or None.
        item: the item, if `single` and at hand.

    Raises:
        TimeoutError: the deadline passed first.
    """
    try:
        value = taken(future, deadline)
    except BaseException as error:
        if not _is_outcome(future, error):
            raise
        del future  # the error's traceback keeps this frame
        note_items(error, first, count, sketch(item))
        if return_exceptions and is_returnable(error):
            return [error] * count, None, 0.0
        return [], Failure(error, ""), 0.0
    if single:
        return [value], None, 0.0
    return opened(value, first, return_exceptions)


def opened(outcome: Outcome[T], first: int, return_exceptions: bool) -> Outcome[T]:
    """Return the outcome of a chunk with exceptions in place of the failures that hold them.

    Args:
        outcome: what `run_chunk` returned; its list of results is changed.
        first: the place of the chunk's first item in the input.
        return_exceptions: whether there may be failures among the results.
    """
    results, failure, seconds = outcome
    if failure is not None:
        note_items(failure.exception, first + len(results), 1, failure.shown)
    if return_exceptions:
        places: list[Any] = results
        for place, result in enumerate(places):
            if type(result) is Failure:
                note_items(result.exception, first + place, 1, result.shown)
                places[place] = result.exception
    return results, failure, seconds


def _is_outcome(future: Future[Any], error: BaseException) -> bool:
    """Say whether `error` came from the task, and not from waiting for it."""
    if not future.done():
        return False
    if future.cancelled():
        return isinstance(error, CancelledError)
    raised = future.exception()
    return raised is not None and (error is raised or error.__cause__ is raised)


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


def _submit_chunk(
    executor: Target,
    options: TaskOptions,
    run: Callable[..., Outcome[T]],
    fn: Function[T],
    items: Sequence[Any],
    star: bool,
    return_exceptions: bool,
) -> Future[Outcome[T]]:
    """Have ``run`` call ``fn`` on each of `items` (on ``*item`` with `star`), as one task.

    The future's result is ``(results, failure, seconds)``, see `manyhands._task.chunk.run_chunk`.
    It fails itself only if the chunk as a whole did (its worker died, it cannot be pickled).
    """
    # What is as usual is not said: classes of exceptions would have to be pickled.
    more: dict[str, Any] = {}
    if options.retries:
        more |= {"retries": options.retries, "retry_on": options.retry_on}
    if return_exceptions:
        more["return_exceptions"] = True
    return executor._submit(options, run, (fn, items, star), more)
