"""The types of executors that await what functions return; for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from typing import TypeAlias, Unpack

    from manyhands._future.future import Future
    from manyhands._pool.event_loops import EventLoopExecutor
    from manyhands._pool.executor import BoundExecutor, WaitingExecutor
    from manyhands._task.keywords import OptionKeywords
    from manyhands._task.progress import ProgressOption
    from manyhands._task.stream import Results

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    # What an async function returns, and what a generator function does.
    Awaited: TypeAlias = Awaitable[T] | Generator[Any, Any, T]

    class Awaits:
        """What an executor of coroutines has, with the types of what they return."""

        def submit(
            self, fn: Callable[P, Awaited[T]], /, *args: P.args, **kwargs: P.kwargs
        ) -> Future[T]: ...

        async def run(
            self, fn: Callable[P, Awaited[T]], /, *args: P.args, **kwargs: P.kwargs
        ) -> T: ...

        @overload
        def map(
            self,
            fn: Callable[..., Awaited[T]],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int | None = None,
            buffersize: int | None = None,
            return_exceptions: Literal[False] = False,
            progress: ProgressOption = None,
        ) -> Results[T]: ...

        @overload
        def map(
            self,
            fn: Callable[..., Awaited[T]],
            *iterables: Iterable[Any],
            timeout: float | None = None,
            chunksize: int | None = None,
            buffersize: int | None = None,
            return_exceptions: bool,
            progress: ProgressOption = None,
        ) -> Results[T | BaseException]: ...

        def map(self, fn: Any, *iterables: Any, **keywords: Any) -> Any: ...

        @overload
        def starmap(
            self,
            fn: Callable[..., Awaited[T]],
            iterable: Iterable[Iterable[Any]],
            timeout: float | None = None,
            chunksize: int | None = None,
            buffersize: int | None = None,
            *,
            return_exceptions: Literal[False] = False,
            progress: ProgressOption = None,
        ) -> Results[T]: ...

        @overload
        def starmap(
            self,
            fn: Callable[..., Awaited[T]],
            iterable: Iterable[Iterable[Any]],
            timeout: float | None = None,
            chunksize: int | None = None,
            buffersize: int | None = None,
            *,
            return_exceptions: bool,
            progress: ProgressOption = None,
        ) -> Results[T | BaseException]: ...

        def starmap(self, fn: Any, iterable: Any, *args: Any, **keywords: Any) -> Any: ...

        @overload
        def imap(
            self,
            fn: Callable[..., Awaited[T]],
            *iterables: Iterable[Any],
            buffersize: int | None = None,
            chunksize: int | None = None,
            return_exceptions: Literal[False] = False,
            progress: ProgressOption = None,
        ) -> Results[T]: ...

        @overload
        def imap(
            self,
            fn: Callable[..., Awaited[T]],
            *iterables: Iterable[Any],
            buffersize: int | None = None,
            chunksize: int | None = None,
            return_exceptions: bool,
            progress: ProgressOption = None,
        ) -> Results[T | BaseException]: ...

        def imap(self, fn: Any, *iterables: Any, **keywords: Any) -> Any: ...

        imap_unordered = imap

    class AwaitingView(Awaits, BoundExecutor):  # type: ignore[misc]
        """A view of an executor of coroutines."""

        @overload
        def options(
            self, *, wait_for_futures: Literal[True], **changes: Unpack[OptionKeywords]
        ) -> WaitingView: ...

        @overload
        def options(
            self, *, wait_for_futures: bool = False, **changes: Unpack[OptionKeywords]
        ) -> AwaitingView: ...

        def options(self, **changes: Any) -> Any: ...

    class WaitingView(AwaitingView, WaitingExecutor):  # type: ignore[misc]
        """One whose tasks wait for the futures among their arguments."""

        def submit(  # type: ignore[override]
            self, fn: Callable[..., Awaited[T]], /, *args: Any, **kwargs: Any
        ) -> Future[T]: ...

        async def run(  # type: ignore[override]
            self, fn: Callable[..., Awaited[T]], /, *args: Any, **kwargs: Any
        ) -> T: ...

        @overload
        def options(
            self, *, wait_for_futures: Literal[True] = True, **changes: Unpack[OptionKeywords]
        ) -> WaitingView: ...

        @overload
        def options(
            self, *, wait_for_futures: bool = True, **changes: Unpack[OptionKeywords]
        ) -> AwaitingView: ...

        def options(self, **changes: Any) -> Any: ...

    class AwaitingBase(Awaits, EventLoopExecutor):  # type: ignore[misc]
        """The base of an executor of coroutines."""

        @overload
        def options(
            self, *, wait_for_futures: Literal[True], **keywords: Unpack[OptionKeywords]
        ) -> WaitingView: ...

        @overload
        def options(
            self, *, wait_for_futures: bool = False, **keywords: Unpack[OptionKeywords]
        ) -> AwaitingView: ...

        def options(self, **keywords: Any) -> Any: ...
