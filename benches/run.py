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
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benches.contenders import contender, of_group
from benches.machine import Disturbance, Machine, described
from benches.measure import ENDING
from benches.measures import MEASURES
from benches.waits import DISTRIBUTION, spread

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
    detail: dict[str, float]
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
        """Return the run as JSON: a line for each benchmark and contender, with all rounds."""
        head = {name: getattr(self, name) for name in ("rounds", "scale", "disturbance")}
        lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
        lines.insert(0, f'"machine": {json.dumps(asdict(self.machine))}')
        of_whom: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries, key=lambda entry: entry.round):
            of_whom.setdefault(f"{entry.benchmark}/{entry.contender}", []).append(entry)
        samples = [f"{json.dumps(who)}: {_columns(found)}" for who, found in of_whom.items()]
        lines.append('"samples": {\n' + ",\n".join(samples) + "\n}")
        return "{\n" + ",\n".join(lines) + "\n}"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Return the run that `to_json` wrote."""
        raw = json.loads(text)
        entries = [
            Entry(number, *who.split("/"), **_of_round(columns, place))
            for who, columns in raw.pop("samples").items()
            for place, number in enumerate(columns["round"])
        ]
        return cls(Machine(**raw.pop("machine")), entries=entries, **raw)


def _columns(entries: list[Entry]) -> str:
    """Return one contender's entries of a benchmark as lists with an element for each."""
    columns: dict[str, list[Any]] = {
        "round": [entry.round for entry in entries],
        "value": [entry.value for entry in entries],
    }
    for name in dict.fromkeys(name for entry in entries for name in entry.detail):
        columns[name] = [entry.detail.get(name) for entry in entries]
    if any(entry.error for entry in entries):
        columns["error"] = [entry.error for entry in entries]
    return json.dumps(columns)


def _of_round(columns: dict[str, list[Any]], place: int) -> dict[str, Any]:
    """Return the value, detail and error of one entry from its contender's columns."""
    there = {name: column[place] for name, column in columns.items() if name != "round"}
    value, error = there.pop("value"), there.pop("error", None)
    detail = {name: number for name, number in there.items() if number is not None}
    return {"value": value, "detail": detail, "error": error}


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
    """Return a round's entry: the mean of the benchmark's repeats, each its own process."""
    samples: list[dict[str, Any]] = []
    for _ in range(MEASURES[benchmark].repeats):
        outcome = child(benchmark, name, scale, MEASURES[benchmark].timeout_s)
        if isinstance(outcome, str):
            return Entry(number, benchmark, name, None, {}, outcome)
        samples.append(outcome)
    value, detail = samples[0]["value"], samples[0]["detail"]
    if len(samples) > 1:
        repeats = [float(sample["value"]) for sample in samples]
        value, detail = fmean(repeats), spread(repeats, DISTRIBUTION)
    detail = {what: _rounded(figure) for what, figure in detail.items()}
    return Entry(number, benchmark, name, value if value is None else _rounded(value), detail)


def _rounded(value: float) -> float:
    """Return `value` with five significant digits, more than any machine repeats."""
    return float(f"{value:.5g}")


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
