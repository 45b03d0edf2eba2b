"""The command line: `python -m benches`, which `make bench` calls."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benches import history, report
from benches.contender import HEADINGS
from benches.contenders import NAMES, OURS, installed
from benches.measures import MEASURES
from benches.run import ROOT, Results, measured
from benches.tables import markdown

# What --quick makes of a sample's work.
QUICK_SCALE = 0.1


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benches",
        description="Measure manyhands against the libraries people use today, in one "
        "interleaved run. A full run writes docs/benchmarks/ and README's table; one with "
        "--only, --against or --quick writes nothing unless --output tells where. "
        "BENCH_RAY=1 includes Ray.",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        choices=[*HEADINGS, *MEASURES],
        help="one benchmark or group of them, may be repeated: groups: "
        f"{', '.join(HEADINGS)}; benchmarks: {', '.join(MEASURES)}",
    )
    parser.add_argument(
        "--against",
        action="append",
        metavar="NAME",
        choices=NAMES,
        help=f"one rival beside manyhands, may be repeated: {', '.join(NAMES[1:])}",
    )
    parser.add_argument("--rounds", type=int, default=None, help="default 5, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work per sample")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="write JSON, plots and page here"
    )
    parser.add_argument(
        "--render",
        action="store_true",
        help="measure nothing: write plots, page and README's table from the saved results",
    )
    parser.add_argument(
        "--history",
        action="store_true",
        help="measure nothing: show how the newest whole runs on this kind of machine compare",
    )
    parsed = parser.parse_args(words)
    if parsed.rounds is not None and parsed.rounds < 1:
        parser.error("--rounds must be at least 1")
    return parsed


def chosen(words: list[str]) -> list[str]:
    """Return the benchmarks that the words name, themselves or by their group, in their order."""
    return [name for name, measure in MEASURES.items() if {name, measure.group} & {*words}]


def main(words: list[str] | None = None) -> int:
    """Run the benchmarks; return the exit status: 1 if a sample of ours failed."""
    options = arguments(words)
    folder: Path | None = options.output
    complete = not (options.only or options.against or options.quick)
    if options.history:
        lines = history.read((folder or report.DOCS) / report.HISTORY)
        print(markdown(history.rows(lines)) if lines else "no whole run is recorded")
        return 0
    if options.render:
        folder = folder or report.DOCS
        results = Results.from_json((folder / "results.json").read_text())
    else:
        names = installed((OURS, *options.against) if options.against else NAMES)
        rounds = options.rounds or (2 if options.quick else 5)
        scale = QUICK_SCALE if options.quick else 1.0
        results = measured(chosen(options.only or list(HEADINGS)), names, rounds, scale)
        folder = folder or (report.DOCS if complete else None)
    if folder is not None:
        readme = ROOT / "README.md" if folder == report.DOCS else None
        report.write(results, folder, readme)
    print(results.to_json() if options.json else report.terminal(results))
    return int(any(entry.error and entry.contender == OURS for entry in results.entries))


if __name__ == "__main__":
    # As an exception, so that the sample under way, a session of its own, is ended too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
