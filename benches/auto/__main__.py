"""The command line: `python -m benches.auto`, which `make bench-auto` calls."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benches.auto.grid import GOAL, KINDS, SHARE, Cell, Row, measured
from benches.auto.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.auto",
        description="Measure how well workers='auto' chooses: its time by that of the best of the "
        "caller, threads and processes in the same round, while others keep the CPUs busy.",
    )
    parser.add_argument(
        "--load",
        action="append",
        type=int,
        metavar="N",
        help="processes of others per CPU, may be repeated; default 0, 1 and 4",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="workloads whose name has WORD in it"
    )
    parser.add_argument("--warm", action="store_true", help="pools have been started before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    parsed = parser.parse_args(words)
    if parsed.rounds < 1:
        parser.error("--rounds must be at least 1")
    return parsed


def chosen(words: list[str] | None) -> list[str]:
    """Return the workloads whose names have one of the words in them."""
    return [
        name
        for name in WORKLOADS
        if not words or any(word.lower() in name.lower() for word in words)
    ]


def table(rows: Sequence[Row], share: float) -> str:
    """Return one load's rows as text.

    ``again`` is what always being right would have cost: the best kind once more.
    """
    head = f"{'workload':27}" + "".join(f"{kind:>12}" for kind in KINDS)
    per_cpu = rows[0].per_cpu
    lines = [
        f"{per_cpu} more processes per CPU; in all, others had {share:.0%} of the CPUs",
        f"{head}{'regret':>9}{'worst':>8}{'again':>8}",
    ]
    for row in rows:
        times = "".join(f"{row.seconds(kind):10.3f} s" for kind in KINDS)
        worst = max(cell.regret for cell in row.cells)
        lines.append(f"{row.workload:27}{times}{row.regret:9.2f}{worst:8.2f}{row.noise:8.2f}")
    cells = [cell for row in rows for cell in row.cells]
    lines += [
        _summary("workloads, by their median", [row.regret for row in rows]),
        _summary("single rounds", [cell.regret for cell in cells]),
        _summary("single rounds, had it always been right", [cell.noise for cell in cells]),
    ]
    return "\n".join(lines)


def _summary(what: str, regrets: Sequence[float]) -> str:
    good = sum(regret <= GOAL for regret in regrets) / len(regrets)
    return f"  regret at most {GOAL}: {good:.0%} of {len(regrets)} {what} (goal: {SHARE:.0%})"


def _told(name: str, cell: Cell) -> None:
    times = " ".join(f"{kind} {seconds:.3f}" for kind, seconds in cell.seconds.items())
    text = f"{name}: {cell.regret:.2f} ({times}) {cell.chosen}"
    print(text[:300], file=sys.stderr, flush=True)


def main(words: list[str] | None = None) -> int:
    """Run the grid and print a table per load; return the exit status."""
    options = arguments(words)
    names = chosen(options.only)
    if not names:
        print("no workload has such a name", file=sys.stderr)
        return 2
    samples = []
    for per_cpu in options.load or [0, 1, 4]:
        rows, share = measured(names, per_cpu, options.rounds, options.warm, _told)
        print(table(rows, share), end="\n\n", flush=True)
        samples += [asdict(row) for row in rows]
    if options.json:
        options.json.write_text(json.dumps(samples, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
