"""A backend for joblib: scikit-learn and everything else that uses joblib runs on manyhands.

>>> import joblib, manyhands.joblib
>>> manyhands.joblib.register()
>>> with joblib.parallel_backend("manyhands", n_jobs=2):
...     joblib.Parallel()(joblib.delayed(pow)(2, n) for n in range(4))
[1, 2, 4, 8]
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

import joblib
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)

from manyhands._process import ProcessPoolExecutor, default_workers
from manyhands._shared_pool import KINDS, check_kind
from manyhands._thread import ThreadPoolExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._executor import Executor
    from manyhands._future import Future

__all__ = ["ManyhandsBackend", "register"]

# Executors are kept from one call of `Parallel` to the next: so many of them.
_KEPT: Final = 4


def register() -> None:
    """Make the backend known to joblib as ``"manyhands"``.

    Example:
        >>> manyhands.joblib.register()
        >>> with joblib.parallel_config(backend="manyhands", n_jobs=2):
        ...     joblib.Parallel()(joblib.delayed(abs)(n) for n in (-1, -2))
        [1, 2]
    """
    joblib.register_parallel_backend("manyhands", ManyhandsBackend)


class ManyhandsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches of calls in workers of manyhands.

    Args:
        workers: ``"process"`` or ``"thread"``.
        backend_options: joblib's own, such as ``inner_max_num_threads``, the number of threads
            that numeric libraries may start in each worker process.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    # A task costs microseconds here, so a batch need not last as long as with other backends.
    MIN_IDEAL_BATCH_DURATION = 0.05
    MAX_IDEAL_BATCH_DURATION = 1.0

    def __init__(self, workers: str = "process", **backend_options: Any) -> None:
        super().__init__(**backend_options)
        self._kind = check_kind(workers, KINDS)
        self._executor: Executor | None = None
        # What this call has submitted and is not done.
        self._pending: set[Future[Any]] = set()

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers `n_jobs` means: -1 is one for each CPU, -2 one less, and so on.

        Raises:
            ValueError: it is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(default_workers() + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **backend_options: Any,
    ) -> int:
        """Get ready for a call of `parallel` and return the number of workers.

        Of joblib's options, ``initializer`` and ``initargs`` mean the same here; those about
        memory maps mean nothing, for arrays travel through shared memory anyway.
        """
        del prefer, require
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        options = {**self.backend_kwargs, **backend_options}
        self._executor = _executor(
            _Setting(
                self._kind,
                count,
                self.inner_max_num_threads,
                options.get("initializer"),
                tuple(options.get("initargs", ())),
                tuple(os.environ.get(name) for name in self.MAX_NUM_THREADS_VARS),
            )
        )
        return count

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> Future[Any]:
        """Run `func` in a worker and call `callback` with its future when it is done."""
        if self._executor is None:
            raise RuntimeError("the backend has been terminated")
        future = self._executor.submit(func)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Return the result of `future`, or raise what it raised."""
        return future.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel all that has been submitted; processes that are running some of it are ended."""
        for future in list(self._pending):
            future.cancel()
        if not ensure_ready:
            self._executor = None

    def terminate(self) -> None:
        """Let go of the workers; the next call finds them warm."""
        self._executor = None
        self.reset_batch_stats()


@dataclass(frozen=True, eq=False)
class _Setting:
    """What the executor for a call has to be like."""

    kind: str
    count: int
    inner_threads: int | None
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    # What the user has set numeric libraries to; they read it once, when a worker starts.
    environment: tuple[str | None, ...]

    def suits(self, other: _Setting) -> bool:
        """Say whether an executor made for this is right for `other`.

        Arguments of the initializer have to be the same objects: to compare them may be dear, or
        mean something else.
        """
        return (
            (self.kind, self.count, self.inner_threads, self.environment)
            == (other.kind, other.count, other.inner_threads, other.environment)
            and self.initializer is other.initializer
            and len(self.initargs) == len(other.initargs)
            and all(mine is its for mine, its in zip(self.initargs, other.initargs, strict=True))
        )

    def make(self) -> Executor:
        """Return a new executor."""
        if self.kind == "thread":
            return ThreadPoolExecutor(
                self.count, initializer=self.initializer, initargs=self.initargs
            )
        return ProcessPoolExecutor(
            self.count,
            initializer=_set_up_worker,
            initargs=(self.initializer, self.initargs),
            worker_threads=self.inner_threads,
        )


def _set_up_worker(initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
    # Calls that are made in workers may ask for this backend by its name.
    register()
    if initializer is not None:
        initializer(*initargs)


# Latest used last.
_kept: list[tuple[_Setting, Executor]] = []
_lock = RLock()


def _renew_lock() -> None:
    # Another thread of the parent may have held it when this child was forked.
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)


def _executor(setting: _Setting) -> Executor:
    """Return the executor that is kept for such calls, or a new one."""
    with _lock:
        for place, (known, executor) in enumerate(_kept):
            if known.suits(setting) and not executor._is_shut_down():
                _kept.append(_kept.pop(place))
                return executor
        executor = setting.make()
        _kept.append((setting, executor))
        # Whoever still uses one that is let go here keeps it alive; its workers end with it.
        del _kept[:-_KEPT]
        return executor
