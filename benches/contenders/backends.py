"""What joblib can run on: manyhands and the backends that joblib brings along."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

from benches.contender import Contender, Kind

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class JoblibBackend(Contender):
    """A backend of joblib, chosen by its name around code that knows nothing of it.

    Raises ImportError when constructed without joblib being installed.
    """

    backend: ClassVar[str]

    def __init__(self) -> None:
        self._joblib = importlib.import_module("joblib")

    def chosen(self, workers: int) -> AbstractContextManager[Any]:
        """Return a context in which joblib runs on this backend, with so many workers."""
        context: AbstractContextManager[Any] = self._joblib.parallel_config(
            backend=self.backend, n_jobs=workers
        )
        return context


class Manyhands(JoblibBackend):
    """The backend of manyhands, everything at its default."""

    distribution = "manyhands"
    backend = "manyhands"
    labels: ClassVar[dict[Kind, str]] = {"backend": "manyhands"}
    usage: ClassVar[dict[str, str]] = {
        "backend": '`manyhands.joblib.register()`, `parallel_config(backend="manyhands")`'
    }

    def __init__(self) -> None:
        super().__init__()
        importlib.import_module("manyhands.joblib").register()


class Loky(JoblibBackend):
    """joblib's default."""

    distribution = "loky"
    backend = "loky"
    labels: ClassVar[dict[Kind, str]] = {"backend": "loky"}
    usage: ClassVar[dict[str, str]] = {"backend": '`parallel_config(backend="loky")`'}


class Multiprocessing(JoblibBackend):
    """joblib over `multiprocessing.Pool`, made again for each call of `Parallel`."""

    backend = "multiprocessing"
    labels: ClassVar[dict[Kind, str]] = {"backend": "multiprocessing"}
    usage: ClassVar[dict[str, str]] = {"backend": '`parallel_config(backend="multiprocessing")`'}
