"""A backend for joblib: scikit-learn and everything else that uses joblib runs on manyhands.

>>> import joblib, manyhands.joblib
>>> manyhands.joblib.register()
>>> with joblib.parallel_backend("manyhands", n_jobs=2):
...     joblib.Parallel()(joblib.delayed(pow)(2, n) for n in range(4))
[1, 2, 4, 8]
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

import joblib
from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
)
from joblib.disk import memstr_to_bytes

from manyhands._memory.share import share
from manyhands._pickle import by_value, pickling
from manyhands._pool.process import ProcessPoolExecutor, default_workers
from manyhands._pool.shared import KINDS, check_kind
from manyhands._pool.thread import ThreadPoolExecutor

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyhands._future.future import Future
    from manyhands._pool.executor import Executor

__all__ = ["ManyhandsBackend", "register"]

if not hasattr(ParallelBackendBase, "submit"):
    raise ImportError(f"manyhands.joblib needs joblib 1.5 or newer; this is {joblib.__version__}")

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
        self._user: ref[Any] | None = None  # the `Parallel` that has configured it
        # What this call has submitted and is not done.
        self._pending: set[Future[Any]] = set()
        self._placed = _PlacedArrays(None, "r")

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

        Of joblib's options, ``initializer``, ``initargs``, ``max_nbytes`` and ``mmap_mode`` mean
        the same here: an array larger than ``max_nbytes`` is placed once for all calls that use
        it, in shared memory instead of a file, and tasks cannot change it (unless the mode is
        ``"c"``, for copies, or ``"r+"``). The options about folders mean nothing.
        """
        del prefer, require
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._is_used_by_other(parallel):
            raise FallbackToBackend(self._another())
        self.parallel = parallel
        self._user = None if parallel is None else ref(parallel)
        options = {**self.backend_kwargs, **backend_options}
        self._placed = _PlacedArrays(options.get("max_nbytes", "1M"), options.get("mmap_mode", "r"))
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

    def _is_used_by_other(self, parallel: Any) -> bool:
        # All calls under one `parallel_config` are given the same backend, even one that begins
        # while another's results are still being taken. The first to end would end both.
        user = None if self._user is None or self._executor is None else self._user()
        return user is not None and user is not parallel

    def _another(self) -> ManyhandsBackend:
        return type(self)(
            self._kind,
            nesting_level=self.nesting_level,
            inner_max_num_threads=self.inner_max_num_threads,
            **self.backend_kwargs,
        )

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], object] | None = None
    ) -> Future[Any]:
        """Run `func` in a worker and call `callback` with its future when it is done."""
        if self._executor is None:
            raise RuntimeError("the backend has been terminated")
        if self._executor._kind.ships_functions:
            future = self._executor.options(name=_name_of(func)).submit(_Batch(func, self._placed))
        else:
            future = self._executor.submit(func)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, future: Future[Any]) -> Any:
        """Return the result of `future`, or raise what it raised."""
        return future.result()

    def start_call(self) -> None:
        """Place arrays again: they may have changed since the last call."""
        self._placed.clear()

    def stop_call(self) -> None:
        """Release the arrays that were placed for the call."""
        self._placed.clear()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel all that has been submitted; processes that are running some of it are ended."""
        for future in list(self._pending):
            future.cancel()
        if not ensure_ready:
            self._executor = None

    def terminate(self) -> None:
        """Release the workers; the next call finds them warm."""
        self._executor = None
        self._placed.clear()
        self.reset_batch_stats()


class _PlacedArrays:
    """Large arrays of one call of `Parallel`, each in shared memory once, for all its tasks.

    Args:
        most: the size in bytes (or as a text such as ``"1M"``) from which arrays are placed; None
            places none.
        mode: as that of `numpy.memmap`.
    """

    def __init__(self, most: int | str | None, mode: str | None) -> None:
        size = memstr_to_bytes(most) if isinstance(most, str) else most
        self._most: float = math.inf if size is None or mode in (None, "c") else size
        self._writable = mode in ("r+", "w+")
        # By id of an array: the array itself, so that its id stays its own, and the placed one.
        self._arrays: dict[int, tuple[Any, Any]] = {}

    def clear(self) -> None:
        """Release all."""
        self._arrays = {}

    def reduce(self, obj: Any) -> Any:
        """Say how to pickle a large array; NotImplemented for all else."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(obj) is not numpy.ndarray or obj.nbytes <= self._most:
            return NotImplemented
        known = self._arrays.get(id(obj))
        if known is None:
            if obj.dtype.hasobject:
                return NotImplemented
            try:
                known = (obj, share(obj, writable=self._writable))
            except MemoryError:
                return NotImplemented
            self._arrays[id(obj)] = known
        return _plain_array, (known[1],)


def _plain_array(shared: Any) -> Any:
    import numpy as np

    return shared.view(np.ndarray)


class _Batch:
    """joblib's batch of calls, pickled with its large arrays by reference."""

    def __init__(self, func: Callable[[], Any], placed: _PlacedArrays) -> None:
        self.func = func
        self.placed = placed
        self._reduced: tuple[object, ...] | None = None

    def __call__(self) -> Any:
        return self.func()

    def __reduce__(self) -> tuple[object, ...]:
        # A pickle in which "__main__" occurs is made once more, by value. It does in every task of
        # scikit-learn, whose warning filters go along; the batch itself needs no second time.
        reduced, self._reduced = self._reduced, None
        if reduced is None:
            reduced = self._reduced = by_value.dumps(self.func, self.placed.reduce)
        return _load_batch, reduced


def _load_batch(data: bytes, buffers: Any) -> Callable[[], Any]:
    batch: Callable[[], Any] = pickling.loads(data, buffers)
    return batch


def _name_of(func: Callable[[], Any]) -> str:
    return type(func).__qualname__


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
                break
        else:
            executor = setting.make()
            _kept.append((setting, executor))
            # Whoever still uses one that is let go here keeps it alive; its workers end with it.
            del _kept[:-_KEPT]
    # Not under the lock, as in `shared_pool`.
    executor._follow()
    return executor
