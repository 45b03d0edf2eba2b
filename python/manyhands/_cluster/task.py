"""Tasks with names, that workers anywhere can run: `task`."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    TypeVar,
    overload,
)

from manyhands._cluster.attempt import Attempt
from manyhands._cluster.sender import the_sender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Protocol

    from manyhands._cluster.signature import Signature
    from manyhands._future.future import Future

__all__ = ["Task", "TaskSettings", "find", "registry", "task"]

P = ParamSpec("P")
T = TypeVar("T")

# All tasks of this process by their names; a message can ask for these and nothing else.
registry: Final[dict[str, Task[..., Any]]] = {}
# The executors that send tasks; the latest one does.


class TaskSettings(NamedTuple):
    """What holds for all runs of a task; see `task`."""

    bind: bool = False
    max_retries: int | None = 3
    retry_on: tuple[type[Exception], ...] = ()
    retry_delay: float = 180.0
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool = False
    queue: str | None = None


class Task(Generic[P, T]):
    """A function with a name under which workers know it; made by `task`.

    Called like the function, it runs here and now.

    Attributes:
        name: its name, unique among all tasks of a fleet.
        settings: what holds for all its runs.
    """

    __module__ = "manyhands"
    __name__: str

    def __init__(self, function: Callable[..., Any], name: str, settings: TaskSettings) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.settings = settings
        self.is_async = inspect.iscoroutinefunction(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it here and now; of an ``async def`` function return the coroutine."""
        result: T = self.call(self.attempt("here"), args, kwargs)
        return result

    def attempt(self, *about: Any) -> Attempt:
        """Return an attempt; `about` is what its message says, from the id on."""
        return Attempt(self.name, self.settings.max_retries, self.settings.retry_delay, *about)

    def call(self, attempt: Attempt, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function for an attempt."""
        if self.settings.bind:
            return self.function(attempt, *args, **kwargs)
        return self.function(*args, **kwargs)

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a worker of the fleet run it; return its `Future`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Future[T]:
        """Have a worker of the fleet run it, with options for this time.

        Args:
            args: the arguments.
            kwargs: the keyword arguments.
            options: those of `ClusterExecutor.options`; the task's own hold otherwise.

        Raises:
            RuntimeError: no `ClusterExecutor` is open.
        """
        own = {"queue": self.settings.queue, "ignore_result": self.settings.ignore_result}
        sender = the_sender(self.name)
        return sender.send(self, args, kwargs or {}, **(own | options))

    def signature(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the call as a value; a result before it in a chain is one argument more.

        It goes to the task's own queue, if it has one.
        """
        from manyhands._cluster.signature import Signature

        queue = self.settings.queue
        return Signature(self.name, args, kwargs, {} if queue is None else {"queue": queue})

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __reduce__(self) -> tuple[object, ...]:
        return find, (self.name, self.function.__module__)


def find(name: str, module: str) -> Task[..., Any]:
    """Return a task; its module is imported if need be. For pickles, never for names in messages.

    Raises:
        LookupError: there is none of that name.
    """
    if name not in registry:
        __import__(module)
    if name not in registry:
        raise LookupError(f"{module} has no task {name!r}")
    return registry[name]


@overload
def task(function: Callable[P, Awaitable[T]], /) -> Task[P, T]: ...
@overload
def task(function: Callable[P, T], /) -> Task[P, T]: ...
@overload
def task(
    *,
    bind: bool = ...,
    name: str | None = ...,
    max_retries: int | None = ...,
    retry_on: type[Exception] | tuple[type[Exception], ...] = ...,
    retry_delay: float = ...,
    time_limit: float | None = ...,
    soft_time_limit: float | None = ...,
    ignore_result: bool = ...,
    queue: str | None = ...,
) -> _Decorator: ...


def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    **settings: Any,
) -> Any:
    """Make a function a task that workers run under its name, stock Celery workers included.

    Args:
        function: a function or ``async def`` function.
        name: the name; None: ``module.function``, as Celery has it.
        bind: whether its first argument is the `Attempt`.
        max_retries: how often it may be run again at its own wish; None for any number.
        retry_on: the exception class, or tuple of them, because of which it is run again.
        retry_delay: seconds until then.
        time_limit: seconds after which it is ended, where workers are processes or coroutines.
        soft_time_limit: seconds after which it gets `SoftTimeLimitExceeded`.
        ignore_result: whether nobody is told what it returns.
        queue: where it is sent; None: where the executor sends all.

    Raises:
        TypeError: there is no such setting, or `function` is none.
        ValueError: another function has that name.

    Example:
        >>> @mh.task
        ... def add(x: int, y: int) -> int:
        ...     return x + y
        >>> add(2, 3)
        5
    """
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    known = TaskSettings(retry_on=kinds, **settings)

    def register(function: Callable[..., Any]) -> Task[..., Any]:
        if not callable(function):
            raise TypeError(f"{function!r} is no function")
        made: Task[..., Any] = Task(function, name or _name_of(function), known)
        former = registry.get(made.name)
        # A module that is loaded once more has its functions once more.
        if former is not None and former.function.__qualname__ != function.__qualname__:
            raise ValueError(
                f"two functions have the name {made.name}: {former.function.__qualname__} and "
                f"{function.__qualname__}; give one of them another, with task(name=…)"
            )
        registry[made.name] = made
        return made

    return register if function is None else register(function)


if TYPE_CHECKING:

    class _Decorator(Protocol):
        @overload
        def __call__(
            self, function: Callable[Concatenate[Attempt, P], Awaitable[T]], /
        ) -> Task[P, T]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[Attempt, P], T], /) -> Task[P, T]: ...
        @overload
        def __call__(self, function: Callable[P, Awaitable[T]], /) -> Task[P, T]: ...
        @overload
        def __call__(self, function: Callable[P, T], /) -> Task[P, T]: ...


def _name_of(function: Callable[..., Any]) -> str:
    module = function.__module__
    if module == "__main__":
        # As the others of the fleet import it.
        file = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(file).stem if file else module
    return f"{module}.{function.__name__}"
