"""`map`: very many tiny tasks in chunks, and how it scales on real work."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from benches import work
from benches.measure import Make, PoolMeasure, Sample, Unit, check, repeated, timed
from benches.waits import rate_of


class MapInts(PoolMeasure):
    """The default map of a million ints."""

    name = "map"
    title = "Map: a million ints"
    about = "map over a million ints, in chunks where the library makes them"
    unit: ClassVar[Unit] = "1/s"
    higher_is_better = True

    def run(self, make: Make, scale: float) -> Sample:
        """Return items per second: those of one second's repetitions."""
        items = range(max(1000, int(1_000_000 * scale)))
        expected = list(items)
        results: list[int] = []
        with make(self.workers) as pool:
            pool.map(work.identity, items[: len(items) // 20])

            def once() -> None:
                results[:] = pool.map(work.identity, items)

            def wait() -> float:
                taken = timed(once)
                check(results == expected, "the results are not the arguments in order")
                return taken

            times = repeated(wait, 1.0 * scale, at_least=1, at_most=9)
        return rate_of(len(items), times)


class Scaling(PoolMeasure):
    """How much faster two workers parse the standard library than one."""

    name = "scaling"
    title = "Scaling: parsing source files with 2 workers instead of 1"
    about = (
        "`ast.parse` and a count over files of the standard library: 1 worker's time / 2 workers'"
    )
    unit: ClassVar[Unit] = "x"
    higher_is_better = True

    def run(self, make: Make, scale: float) -> Sample:
        """Return the ratio of the two times; the detail holds both, and that of a plain loop."""
        files = source_files(max(4, int(120 * scale)))
        expected: list[tuple[int, int]] = []
        loop = timed(lambda: expected.extend(work.parse(file) for file in files))
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(2):
            for workers in times:
                with make(workers) as pool:
                    # Each worker compiles nothing and imports nothing within the clock.
                    pool.map_long(work.parse, files[:2] * workers)
                    results: list[tuple[int, int]] = []
                    times[workers].append(
                        timed(lambda: results.extend(pool.map_long(work.parse, files)))  # noqa: B023
                    )
                    check(results == expected, "the counts differ from a plain loop's")
        one, two = fmean(times[1]), fmean(times[2])
        return Sample(one / two, {"one_s": one, "two_s": two, "loop_s": loop})


def source_files(count: int) -> list[str]:
    """Return `count` source files spread evenly over the installed standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(
        str(file)
        for file in root.rglob("*.py")
        # Tests of the parser hold files that do not parse.
        if not {"site-packages", "test", "tests", "lib2to3"} & set(file.relative_to(root).parts)
        and file.stat().st_size > 1000
    )
    return files[:: max(1, len(files) // count)][:count]
