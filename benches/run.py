"""One interleaved run: round after round, each benchmark asks every contender in turn.

Ratios are taken within a round, between samples taken seconds apart, so that a machine that gets
slower or busier during the run moves both sides of a ratio.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benches.contenders import contender, of_group
from benches.machine import Disturbance, Machine, described
from benches.measure import ENDING
from benches.measures import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Entry:
    """One sample's place in the run, and its outcome: a value or the reason why there is none."""

    round: int
    benchmark: str
    contender: str
    value: float | None
    detail: dict[str, Any]
    error: str | None = None


@dataclass(frozen=True)
class Results:
    """A whole run, as it stands in results.json."""

    machine: Machine
    rounds: int
    scale: float
    disturbance: float
    entries: list[Entry]

    def to_json(self) -> str:
        """Return the run as JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Return the run that `to_json` wrote."""
        raw = json.loads(text)
        raw["machine"] = Machine(**raw["machine"])
        raw["entries"] = [Entry(**entry) for entry in raw["entries"]]
        return cls(**raw)


def offered(benchmark: str, names: Sequence[str]) -> list[str]:
    """Return the contenders that take part in a benchmark, in their order."""
    measure = MEASURES[benchmark]
    return [
        name
        for name in names
        if name in of_group(measure.group)
        and measure.kind in contender(name, measure.group).labels
        and benchmark not in contender(name, measure.group).sits_out
    ]


def schedule(
    benchmarks: Sequence[str], names: Sequence[str], rounds: int
) -> Iterator[tuple[int, str, str]]:
    """Yield (round, benchmark, contender), the first contender changing from round to round."""
    for number in range(rounds):
        for benchmark in benchmarks:
            there = offered(benchmark, names)
            for place in range(len(there)):
                yield number, benchmark, there[(place + number) % len(there)]


def measured(benchmarks: Sequence[str], names: Sequence[str], rounds: int, scale: float) -> Results:
    """Take every sample of the schedule, telling of each on stderr; failures are entries too."""
    machine = described(names)
    disturbance = Disturbance()
    entries: list[Entry] = []
    plan = list(schedule(benchmarks, names, rounds))
    for place, (number, benchmark, name) in enumerate(plan, 1):
        entry = taken(number, benchmark, name, scale)
        entries.append(entry)
        outcome = (
            entry.error.splitlines()[-1]
            if entry.error
            else "not reached"
            if entry.value is None
            else f"{entry.value:.4g}"
        )
        print(f"[{place}/{len(plan)}] {benchmark} {name}: {outcome}", file=sys.stderr, flush=True)
    return Results(machine, rounds, scale, disturbance.share(), entries)


def taken(number: int, benchmark: str, name: str, scale: float) -> Entry:
    """Return a round's entry: the median of the benchmark's repeats, each its own process."""
    samples: list[dict[str, Any]] = []
    for _ in range(MEASURES[benchmark].repeats):
        outcome = child(benchmark, name, scale, MEASURES[benchmark].timeout_s)
        if isinstance(outcome, str):
            return Entry(number, benchmark, name, None, {}, outcome)
        samples.append(outcome)
    if len(samples) == 1:
        return Entry(number, benchmark, name, samples[0]["value"], samples[0]["detail"])
    samples.sort(key=lambda sample: float(sample["value"]))
    repeats = [sample["value"] for sample in samples]
    detail = {**samples[len(samples) // 2]["detail"], "repeats": repeats}
    return Entry(number, benchmark, name, median(repeats), detail)


def child(benchmark: str, name: str, scale: float, timeout_s: float) -> dict[str, Any] | str:
    """Take one sample in a new process; return it, or the reason why there is none."""
    path_list = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path_list))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sample.json")
        noise = Path(folder, "noise")
        # Held back until there is a handle to end the sample by; the sample lets them in again.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        with noise.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "benches.sample", benchmark, name, str(scale), str(path)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"no result within {timeout_s:.0f} s"
        finally:
            _end_session(process)
        if process.returncode != 0 or not path.exists():
            said = noise.read_text(errors="replace").strip()
            return f"exit status {process.returncode}: {said[-2000:]}"
        sample: dict[str, Any] = json.loads(path.read_text())
        return sample


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what the sample left behind, so that it does not disturb the next one."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
