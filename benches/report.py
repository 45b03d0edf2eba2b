"""What is written: the terminal's table, the README's table, and docs/benchmarks/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches import history, page, summary
from benches.comparison import comparison_rows
from benches.run import ROOT, Results
from benches.tables import machine_line, markdown, ratio_rows, target_rows, value_rows
from benches.targets import verdicts

if TYPE_CHECKING:
    from pathlib import Path

HOW = """\
Values are means; p50, p95 and p99 are of the same calls, or of repetitions of many calls. The ratio
is one of means, in brackets its least and most over the rounds."""
# What stands there until a whole run has been made.
UNMEASURED = "No whole run of this version is recorded yet: `make bench` writes the figures here."
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
HISTORY = "history.jsonl"
DOCS = ROOT / "docs" / "benchmarks"


def terminal(results: Results) -> str:
    """Return what a run prints: values, ratios, targets, machine, what is slower, failures."""
    parts = []
    before = [line for line in history.read(DOCS / HISTORY) if line.date < results.machine.date]
    worse = history.slower([*before, history.Line.of(results)])
    for group in summary.groups(results):
        parts.append(markdown(value_rows(results, group)))
        ratios, found = ratio_rows(results, group), verdicts(results, group)
        if len(ratios) > 1:
            parts.append(markdown(ratios))
        if found:
            parts.append(markdown(target_rows(found)))
    parts.append(machine_line(results))
    parts.append("\n".join(f"slower: {name}: {much}" for name, much in worse.items()))
    parts.append("\n".join(f"failed: {line}" for line in summary.errors(results)))
    return "\n\n".join(filter(None, parts))


def readme_part(results: Results) -> str:
    """Return what stands between README's marks."""
    more = (
        "Every library's figures, the plots and how each is called: "
        "[docs/benchmarks](docs/benchmarks/README.md)."
    )
    return "\n\n".join((markdown(comparison_rows(results)), HOW, machine_line(results), more))


def with_part(text: str, part: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """Return `text` with `part` between the marks.

    Raises ValueError if the text does not hold both marks, in order.
    """
    head, begin, rest = text.partition(marks[0])
    _, end, tail = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"the text holds no {marks[0]} followed by {marks[1]}")
    return f"{head}{begin}\n{part}\n{end}{tail}"


def write(results: Results, folder: Path, readme: Path | None) -> None:
    """Write results, plots and page to `folder`, and the table into `readme` if there is one."""
    # Here, since only drawing needs matplotlib.
    from benches import charts

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(results.to_json() + "\n")
    lines = history.read(folder / HISTORY)
    if results.scale == 1.0:  # of shortened work nothing could be compared
        lines = history.add(folder / HISTORY, results)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, svg in charts.plots(results, verdicts(results)).items():
        (folder / name).write_text(svg)
    (folder / "README.md").write_text(page.written(results, lines))
    if readme is not None:
        readme.write_text(with_part(readme.read_text(), readme_part(results)))
