"""A backend for joblib: scikit-learn and everything else that uses joblib runs on manyhands.

>>> import joblib, manyhands.joblib
>>> manyhands.joblib.register()
>>> with joblib.parallel_backend("manyhands", n_jobs=2):
...     joblib.Parallel()(joblib.delayed(pow)(2, n) for n in range(4))
[1, 2, 4, 8]
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
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
    from concurrent.futures import Future

    from manyhands._executor import Executor

__all__ = ["ManyhandsBackend", "register"]

# Executors are kept from one call of `Parallel` to the next; so many of them, latest used last.
_KEPT: Final = 4
_executors: OrderedDict[tuple[str, int, int | None], Executor] = OrderedDict()
_lock = Lock()


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
    MIN_IDEAL_BATCH_DURATION = 0.02
    MAX_IDEAL_BATCH_DURATION = 0.5

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
        """Get ready for a call of `parallel` and return the number of workers."""
        del prefer, require, backend_options
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._executor = _executor(self._kind, count, self.inner_max_num_threads)
        return count

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Future[Any]], object] | None = None
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


def _executor(kind: str, count: int, inner_threads: int | None) -> Executor:
    """Return the executor for such calls, a new one if there is none yet."""
    key = (kind, count, inner_threads)
    with _lock:
        executor = _executors.get(key)
        if executor is None or executor._is_shut_down():
            if kind == "thread":
                executor = ThreadPoolExecutor(count)
            else:
                executor = ProcessPoolExecutor(count, worker_threads=inner_threads)
            _executors[key] = executor
        _executors.move_to_end(key)
        if len(_executors) > _KEPT:
            # Whoever is using it keeps it alive; its workers end with it.
            _executors.popitem(last=False)
        return executor
