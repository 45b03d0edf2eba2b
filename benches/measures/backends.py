"""How long what people do with joblib takes on each of its backends."""

from __future__ import annotations

import abc
import importlib
from typing import TYPE_CHECKING, ClassVar

from benches import work
from benches.contenders.backends import JoblibBackend
from benches.measure import Measure, Sample, Unit, check, repeated, timed
from benches.measures.arrays import made_array
from benches.waits import sample_of

if TYPE_CHECKING:
    from benches.contender import Contender, Kind

WORKERS = 2
# Tasks of one call that all get the same array.
TASKS = 32


class BackendMeasure(Measure):
    """A benchmark of backends of joblib."""

    group = "joblib"
    kind: ClassVar[Kind] = "backend"
    unit: ClassVar[Unit] = "s"

    def sample(self, library: type[Contender], scale: float) -> Sample:
        """Measure with the library as joblib's backend."""
        assert issubclass(library, JoblibBackend)
        with library().chosen(WORKERS):
            return self.run(scale)

    @abc.abstractmethod
    def run(self, scale: float) -> Sample:
        """Measure the backend that is chosen."""


class OneArray(BackendMeasure):
    """One call of Parallel whose tasks all get the same array."""

    name = "joblib_array"
    title = f"joblib: one array of 64 MB to {TASKS} tasks"
    about = "each task sums its own part of the array, which is changed before each call"

    def run(self, scale: float) -> Sample:
        """Return the seconds that one call takes."""
        joblib = importlib.import_module("joblib")
        array = made_array(scale)
        # Whole numbers, so that a sum is the same however it is made.
        array[:] = 1.0
        part = len(array) // TASKS
        sums: list[float] = []

        def call() -> None:
            sums[:] = joblib.Parallel()(
                joblib.delayed(work.sum_of_part)(array, place * part, (place + 1) * part)
                for place in range(TASKS)
            )

        def wait() -> float:
            array[0] += 1.0
            taken = timed(call)
            expected = [part - 1 + array[0], *[part] * (TASKS - 1)]
            check(sums == expected, "the tasks saw another array than the one sent")
            return taken

        wait()
        waits = repeated(wait, 2.0 * scale, at_least=3, at_most=30)
        return sample_of(waits)


class GridSearch(BackendMeasure):
    """scikit-learn's search for the best parameters of a classifier."""

    name = "grid_search"
    title = "joblib: a grid search of scikit-learn"
    about = "`GridSearchCV` over 12 settings of `SVC`, 5 folds each, on the digits data set"
    timeout_s: ClassVar[float] = 180.0

    def run(self, scale: float) -> Sample:
        """Return the seconds that one search takes; workers have scikit-learn imported."""
        joblib = importlib.import_module("joblib")
        datasets = importlib.import_module("sklearn.datasets")
        selection = importlib.import_module("sklearn.model_selection")
        svm = importlib.import_module("sklearn.svm")
        data, digits = datasets.load_digits(return_X_y=True)
        count = max(300, int(len(digits) * min(1.0, scale)))
        data, digits = data[:count], digits[:count]
        grid = {"C": [0.1, 1.0, 10.0, 100.0], "gamma": [1e-4, 1e-3, 1e-2]}

        def found() -> tuple[object, float]:
            search = selection.GridSearchCV(svm.SVC(), grid, cv=5).fit(data, digits)
            return search.best_params_, float(search.best_score_)

        with joblib.parallel_config(backend="sequential"):
            expected = found()

        def wait() -> float:
            best: list[object] = []
            taken = timed(lambda: best.append(found()))
            check(best == [expected], "the search found something else than a sequential one")
            return taken

        wait()
        waits = repeated(wait, 4.0 * scale, at_least=3, at_most=9)
        return sample_of(waits)
