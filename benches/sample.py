"""One sample in a process of its own: `python -m benches.sample BENCHMARK CONTENDER SCALE FILE`.

A process each, so that no library sees the threads, children or imports of another.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict

from benches.contenders import contender
from benches.measure import ENDING


def main(benchmark: str, name: str, scale: float, path: str) -> None:
    """Take the sample and write it as JSON to the file `path`."""
    from benches.measures import MEASURES

    measure = MEASURES[benchmark]
    sample = measure.sample(contender(name, measure.group), scale)
    # Written only when whole: the reader takes an empty file for a failure.
    with open(path, "w") as file:
        json.dump(asdict(sample), file)


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4])
