"""What docs/server/ways.md shows: a look-up by each kind of worker, as clients become more.

`python -m benches.ways` measures, and writes chart and table; with `--render` from what was
measured before, in docs/server/ways.json.
"""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from benches.machine import Machine, described
from benches.measure import check
from benches.measures.servers import ANSWER_S
from benches.quantity import digits
from benches.report import with_part
from benches.run import ROOT
from benches.server import HOST
from benches.server_process import ServerProcess
from benches.tables import markdown
from benches.ways.look_ups import ANSWER, KINDS, REQUEST, WAIT_S, LookUps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER: Final = ROOT / "docs" / "server"
CLIENTS: Final = (1, 4, 16, 64)
# Those of the table.
SHOWN: Final = (4, 64)
MARKS: Final = ("<!-- ways:begin -->", "<!-- ways:end -->")
# The best of so many counts, which other programs have disturbed least.
ROUNDS: Final = 10
LOAD_S: Final = 0.2
WORK: Final = {
    "waits": f"a look-up that waits {1000 * WAIT_S:.0f} ms for a disk",
    "computes": "a look-up that compares with every name",
}

# Work -> kind -> clients, as a word -> answers a second, one number for each round.
Rates: TypeAlias = dict[str, dict[str, dict[str, list[float]]]]


def measured() -> Rates:
    """Return what each kind of worker achieves, all of them in turn in each round."""
    rates: Rates = {work: {kind: {} for kind in KINDS} for work in WORK}
    for work in WORK:
        with ExitStack() as started:
            servers = {
                kind: started.enter_context(ServerProcess(LookUps, work, kind)) for kind in KINDS
            }
            for _, clients, kind in product(range(ROUNDS), CLIENTS, KINDS):
                # Those of the last load have been served, or the first are ready to be.
                _answered(servers[kind].port)
                rate = round(_rate(servers[kind].port, clients), 1)
                rates[work][kind].setdefault(str(clients), []).append(rate)
    return rates


def _answered(port: int) -> None:
    """Have one look-up answered."""
    with socket.create_connection((HOST, port), ANSWER_S) as client:
        client.sendall(REQUEST)
        check(client.recv(len(ANSWER)) == ANSWER, "the answer is another dinosaur")


def _rate(port: int, clients: int) -> float:
    """Return how many look-ups a second are answered to so many clients."""
    from manyhands import _native

    report = _native.run_load(
        f"{HOST}:{port}",
        connections=clients,
        request=REQUEST,
        answer=len(ANSWER),
        reconnect=False,
        seconds=LOAD_S,
    )
    check(not report["failures"], f"look-ups failed: {report['failures']}")
    return len(report["waits"]) / report["seconds"]


def drawn(rates: Rates) -> str:
    """Return the charts as SVG: a panel for each kind of work, a line for each kind of worker."""
    # Whoever only measures has no matplotlib.
    import matplotlib
    from matplotlib.figure import Figure

    from benches import charts

    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(charts.WIDTH, 3.6), layout="constrained")
        for axes, (work, title) in zip(figure.subplots(1, 2), WORK.items(), strict=True):
            _draw(axes, rates[work])
            axes.set_title(title, weight="bold")
        lines, words = axes.get_legend_handles_labels()
        figure.legend(
            lines,
            words,
            loc="outside lower center",
            ncols=len(KINDS),
            frameon=False,
            labelcolor="linecolor",
        )
        return charts.svg(figure)


def _draw(axes: Axes, rates: dict[str, dict[str, list[float]]]) -> None:
    from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullLocator

    from benches import charts

    colours = (charts.FAINT, charts.BLUE, charts.MISSED, charts.MET, charts.VIOLET)
    # What was measured before there was one of them is drawn, too.
    for kind, colour in zip(rates, colours, strict=False):
        found = [max(rates[kind][str(clients)]) for clients in CLIENTS]
        axes.plot(CLIENTS, found, "o-", color=colour, markersize=4, linewidth=2, label=kind)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(CLIENTS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("clients at a time")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("answers a second")
    axes.yaxis.set_major_formatter(EngFormatter())


def table(run: dict[str, Any]) -> str:
    """Return the ratios of a run as Markdown, and the conditions."""
    rates: Rates = run["rates"]
    rows = [["", *(f"{work}, {clients} clients" for work in WORK for clients in SHOWN)]]
    for kind in list(rates["waits"])[1:]:
        cells = [_ratio(rates[work], kind, clients) for work in WORK for clients in SHOWN]
        rows.append([kind, *cells])
    here = Machine(**run["machine"])
    return (
        f"{markdown(rows)}\n\n"
        f"Answers a second, divided by those of one thread that serves one client after the other. "
        f"{here.date}, {here.cpu}, {here.cpus} CPUs, Linux {here.kernel}, {here.python}; the load "
        f"average was {here.load_before} before the run. Each figure is the best of {ROUNDS} loads "
        f"of {LOAD_S} s, all in turn; clients are on the same machine."
    )


def _ratio(rates: dict[str, dict[str, list[float]]], kind: str, clients: int) -> str:
    ours, alone = (max(rates[each][str(clients)]) for each in (kind, "one thread"))
    return f"{digits(ours / alone)}×"


def main(words: list[str]) -> None:
    """Measure unless told to `--render` only; draw, and write the page's table."""
    path, page = FOLDER / "ways.json", FOLDER / "ways.md"
    if "--render" not in words:
        run = {"machine": asdict(described([])), "rates": measured()}
        path.write_text(json.dumps(run) + "\n")
    run = json.loads(path.read_text())
    (FOLDER / "ways.svg").write_text(drawn(run["rates"]))
    page.write_text(with_part(page.read_text(), table(run), MARKS))
    print(table(run))


if __name__ == "__main__":
    main(sys.argv[1:])
