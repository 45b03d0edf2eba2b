"""The types of an executor whose tasks go by name; for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manyhands._future.future import Future
    from manyhands._pool.executor import BoundExecutor, Executor
    from manyhands._task.stream import Results

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:

    class ByName:
        """What takes the name of a task where others take a function."""

        @overload
        def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

        @overload
        def submit(self, fn: str, /, *args: Any, **kwargs: Any) -> Future[Any]: ...

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any: ...

        @overload
        async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

        @overload
        async def run(self, fn: str, /, *args: Any, **kwargs: Any) -> Any: ...

        async def run(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any: ...

        @overload
        def map(
            self, fn: Callable[..., T], *iterables: Iterable[Any], **more: Any
        ) -> Results[T]: ...

        @overload
        def map(self, fn: str, *iterables: Iterable[Any], **more: Any) -> Results[Any]: ...

        def map(self, fn: Any, *iterables: Any, **more: Any) -> Any: ...

        def imap(self, fn: Any, *iterables: Iterable[Any], **more: Any) -> Results[Any]: ...

        def starmap(self, fn: Any, iterable: Iterable[Any], **more: Any) -> Results[Any]: ...

    class ViewByName(ByName, BoundExecutor):  # type: ignore[misc]
        """A view of such an executor."""

    class ExecutorByName(ByName, Executor):  # type: ignore[misc]
        """The base of such an executor."""
