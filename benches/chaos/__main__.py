"""The command line: `python -m benches.chaos`, which `make chaos` calls."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING

from benches.chaos.storm import KILL, RELOAD, Result, stormed
from benches.chaos.supervisor import KINDS, OURS
from benches.chaos.tally import Failure
from benches.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable

# What stands together in the table.
_COLUMNS = {
    "refused": {Failure.REFUSED},
    "reset or closed": {Failure.RESET, Failure.EMPTY},
    "cut or wrong": {Failure.CUT, Failure.WRONG},
    "late": {Failure.LATE},
    "overtaken": {Failure.OVERTAKEN},
}


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.chaos",
        description="Reload servers and kill their workers under a load, and count what fails.",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=KINDS,
        metavar="NAME",
        help=f"one server, may be repeated: {', '.join(KINDS)}",
    )
    parser.add_argument("--reloads", type=int, default=200, help="default 200")
    parser.add_argument("--kills", type=int, default=100, help="default 100")
    parser.add_argument("--keep", action="store_true", help="clients keep their connections")
    parser.add_argument("--show", action="store_true", help="show what the servers say")
    parsed = parser.parse_args(words)
    if parsed.reloads < 0 or parsed.kills < 0:
        parser.error("--reloads and --kills must be at least 0")
    return parsed


def rows(results: Iterable[Result]) -> list[list[str]]:
    """Return the head of the table and a row for each server."""
    found = [
        [
            "server",
            "reloads, kills",
            "answers",
            "with killed workers: had, failed",
            *_COLUMNS,
            "longest wait: reload, kill",
            "until all serve: reload, kill",
        ]
    ]
    for result in results:
        hows = Counter(failed.how for failed in result.others)
        longest, seconds = result.tally.longest, result.seconds
        found.append(
            [
                f"{result.name} {KINDS[result.name].version()}",
                f"{len(seconds[RELOAD])}, {len(seconds[KILL])}",
                f"{result.tally.answered:,}",
                f"{result.held}, {result.lost}",
                *(str(sum(hows[how] for how in group)) for group in _COLUMNS.values()),
                f"{longest[RELOAD]:.2f} s, {longest[KILL]:.2f} s",
                f"{result.median(RELOAD):.1f} s, {result.median(KILL):.1f} s",
            ]
        )
    return found


def notes(result: Result) -> list[str]:
    """Return what is not in the table: when others failed, and what went wrong with the run."""
    when = Counter((failed.during, failed.how.value) for failed in result.others)
    found = [f"{result.name}: {count} {how} during {what}" for (what, how), count in when.items()]
    if result.unsettled:
        found.append(f"{result.name}: {result.unsettled} times not all workers were seen again")
    if result.ended:
        found.append(f"{result.name}: {result.ended}")
    return found


def main(words: list[str] | None = None) -> int:
    """Run the storm; return the exit status: 1 if ours failed a request that it should not."""
    options = arguments(words)
    results = []
    for name in options.only or KINDS:
        try:
            KINDS[name].version()
        except PackageNotFoundError:
            print(f"{name} is not installed", file=sys.stderr)
            continue
        log = None if options.show else subprocess.DEVNULL
        results.append(
            stormed(name, KINDS[name], options.keep, options.reloads, options.kills, log)
        )
    print(markdown(rows(results)))
    for result in results:
        print(*notes(result), sep="\n")
    return int(any(KINDS[each.name].distribution == OURS and each.failed for each in results))


if __name__ == "__main__":
    # As an exception, so that the server under way is ended, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
