"""How fast tasks go over RabbitMQ, and what their worker takes of memory."""

from __future__ import annotations

import abc
import time
from typing import TYPE_CHECKING, ClassVar

from benches.cluster import ClusterContender, worker
from benches.measure import Measure, Sample, check, timed
from benches.measures.memory import descendants, pss
from benches.waits import sample_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benches.contender import Contender, Kind
    from benches.measure import Unit

# Until all is as it stays: connections are made, channels opened, modules imported.
WARM = 50


class ClusterMeasure(Measure):
    """A benchmark over a RabbitMQ that is started for it."""

    group = "cluster"
    kind: ClassVar[Kind] = "cluster"
    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True
    timeout_s: ClassVar[float] = 180.0

    def sample(self, library: type[Contender], scale: float) -> Sample:
        """Measure the library's producer and worker."""
        from manyhands._cluster.private_broker import PrivateBroker

        assert issubclass(library, ClusterContender)
        with PrivateBroker() as broker, library(self.kind, broker.url) as producer:
            with worker(library, broker.url) as pid:
                check_results(producer, range(WARM))
                return self.run(producer, pid, scale)

    @abc.abstractmethod
    def run(self, producer: ClusterContender, pid: int, scale: float) -> Sample:
        """Measure with a producer, and a worker in this process."""


class ClusterTasks(ClusterMeasure):
    """Tiny tasks, and their results."""

    name = "cluster_tasks"
    title = "Cluster: tiny tasks and their results"
    about = "5,000 tiny tasks to a worker with two processes, then all results: tasks a second"

    def run(self, producer: ClusterContender, pid: int, scale: float) -> Sample:
        """Return tasks a second, of all from the first task to the last result."""
        numbers = range(max(WARM, int(5_000 * scale)))
        return Sample(len(numbers) / timed(lambda: check_results(producer, numbers)))


class ClusterPublish(ClusterMeasure):
    """Tasks that nobody waits for."""

    name = "cluster_publish"
    title = "Cluster: publishing tasks"
    about = "20,000 tiny tasks whose results nobody wants, until all are published"

    def run(self, producer: ClusterContender, pid: int, scale: float) -> Sample:
        """Return tasks a second, as the producer has them."""
        numbers = range(max(WARM, int(20_000 * scale)))
        return Sample(len(numbers) / timed(lambda: producer.publish(numbers)))


class ClusterRoundTrip(ClusterMeasure):
    """One task at a time."""

    name = "cluster_round_trip"
    title = "Cluster: one task and its result"
    about = "send one tiny task, wait for its result, and again: mean wait"
    unit: ClassVar[Unit] = "s"
    higher_is_better = False

    def run(self, producer: ClusterContender, pid: int, scale: float) -> Sample:
        """Return the mean wait in seconds; the detail holds its distribution."""
        waits: list[float] = []
        end = time.perf_counter() + 2.0 * scale
        while len(waits) < WARM or time.perf_counter() < end:
            number = len(waits)
            began = time.perf_counter()
            result = producer.call(number)
            waits.append(time.perf_counter() - began)
            check(result == number, "a result is not its argument")
        return sample_of(waits)


class ClusterMemory(ClusterMeasure):
    """A worker's memory, that of its processes included."""

    name = "cluster_memory"
    title = "Cluster: memory of a worker"
    about = "PSS of a worker with two processes that have run tiny tasks, all of it"
    unit: ClassVar[Unit] = "B"
    higher_is_better = False

    def run(self, producer: ClusterContender, pid: int, scale: float) -> Sample:
        """Return bytes."""
        check_results(producer, range(10 * WARM))
        return Sample(sum(pss(each) for each in {pid, *descendants(pid)}))


def check_results(producer: ClusterContender, numbers: Sequence[int]) -> None:
    """Have all run; raise WrongResult unless each result is its argument."""
    check(producer.run_all(numbers) == [*numbers], "results are not their arguments")
