"""How many tiny tasks per second go through a pool, submitted one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check, repeated, timed
from benches.waits import rate_of

if TYPE_CHECKING:
    from benches.contender import Kind


class Submit(PoolMeasure):
    """One submit per tiny task, all results collected."""

    name = "submit"
    title = "Submit: tiny tasks through processes"
    about = "30,000 tasks that return their argument, one submit each, all results collected"
    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True

    def run(self, make: Make, scale: float) -> Sample:
        """Return tasks per second: those of one second's repetitions."""
        tasks = range(max(100, int(30_000 * scale)))
        expected = list(tasks)
        with make(self.workers) as pool:
            pool.submit_all(work.identity, tasks[: len(tasks) // 10])
            results: list[int] = []

            def once() -> None:
                results[:] = pool.submit_all(work.identity, tasks)

            def wait() -> float:
                taken = timed(once)
                check(results == expected, "the results are not the arguments in order")
                return taken

            times = repeated(wait, 1.0 * scale, at_least=1, at_most=9)
        return rate_of(len(tasks), times)


class ThreadSubmit(Submit):
    """The same on threads."""

    name = "thread_submit"
    title = "Submit: tiny tasks through threads"
    kind: ClassVar[Kind] = "thread"
