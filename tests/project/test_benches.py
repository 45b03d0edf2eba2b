"""The benchmarks: what they compute from samples, what they write, and one tiny real run."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from benches import __main__ as command
from benches import history, machine, page, quantity, report, run, summary, tables, waits, work
from benches.comparison import comparison_rows
from benches.contender import HEADINGS, pool_chunk
from benches.contenders import NAMES, OURS, contender, installed, of_group
from benches.measure import PoolMeasure, WrongResult, check, repeated
from benches.measures import MEASURES, lengths, mapping, memory, recover
from benches.run import Entry, Results
from benches.summary import Spread
from benches.targets import TARGETS, Target, Verdict, verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from benches.measure import Unit

pytestmark = pytest.mark.benches

with contextlib.suppress(ImportError):
    import matplotlib.backends.backend_svg  # noqa: F401 - its threads start before a test begins


def sample(number: int, benchmark: str, name: str, value: float | None, **detail: Any) -> Entry:
    error = None if value is not None else "Traceback ...\nOSError: gone"
    return Entry(number, benchmark, name, value, detail, error)


def results(*entries: Entry) -> Results:
    here = machine.Machine(
        date="2026-11-20 08:00 UTC",
        commit="abc1234",
        cpu="a CPU",
        cpus=2,
        memory_bytes=24 * 2**30,
        system="Debian",
        kernel="6.1",
        python="CPython 3.11.7",
        versions={"loky": "3.5"},
        load_before=0.1,
    )
    return Results(here, 2, 1.0, 0.01, list(entries))


@pytest.fixture
def whole_run() -> Results:
    """Two rounds of every benchmark; ours is ten times better than everybody."""
    entries = []
    for number in range(2):
        for name, measure in MEASURES.items():
            for place, who in enumerate(run.offered(name, NAMES)):
                best = 1e5 if measure.higher_is_better else 1e-5
                worse = 1.0 if who == OURS else 10.0 + place
                value = best / worse if measure.higher_is_better else best * worse
                detail = {what: value * share for what, share in waits.DISTRIBUTION.items()}
                if name == "round_trip":
                    detail |= {what: value * share for what, share in waits.CURVE.items()}
                if name == "task_length":
                    detail = {f"{length:g}": 1 / (1 + value / length) for length in lengths.LENGTHS}
                entries.append(sample(number, name, who, value * (1 + number / 10), **detail))
    return results(*entries)


@pytest.mark.parametrize("module", [quantity, lengths, waits])
def test_examples_in_docstrings_hold(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (999.6e3, "1/s", "1.00M/s"),
        (12.0, "1/s", "12.0/s"),
        (3.2e-8, "s", "32.0 ns"),
        (0.0999, "s", "99.9 ms"),
        (5 * 2**20, "B", "5.00 MiB"),
        (0.0, "s", "0 ns"),
    ],
)
def test_quantities_are_shown_with_three_digits(value: float, unit: Unit, words: str) -> None:
    assert quantity.shown(value, unit) == words


def test_spread_of_one_and_of_many() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0, 3.0, 3.0)
    assert Spread.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 1.0, 5.0, 2.0, 4.0)


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is twice as slow in the second round: the ratio of medians would be 3, too, but
    # with a spread that neither library has.
    run_ = results(
        sample(0, "submit", OURS, 300.0),
        sample(0, "submit", "stdlib", 100.0),
        sample(1, "submit", OURS, 150.0),
        sample(1, "submit", "stdlib", 50.0),
    )
    assert summary.ratios(run_, "submit", "stdlib") == Spread(3.0, 3.0, 3.0, 3.0, 3.0)


def test_ratios_of_waits_are_turned_round() -> None:
    run_ = results(sample(0, "cold", OURS, 0.05), sample(0, "cold", "loky", 0.2))
    ratio = summary.ratios(run_, "cold", "loky")
    assert ratio is not None
    assert ratio.median == pytest.approx(4.0)


def test_ratios_leave_out_rounds_in_which_a_side_failed() -> None:
    run_ = results(
        sample(0, "submit", OURS, 300.0),
        sample(0, "submit", "stdlib", None),
        sample(1, "submit", OURS, 100.0),
        sample(1, "submit", "stdlib", 50.0),
    )
    assert summary.ratios(run_, "submit", "stdlib") == Spread(2.0, 2.0, 2.0, 2.0, 2.0)
    assert summary.ratios(run_, "submit", "loky") is None
    assert summary.errors(run_) == ["submit stdlib, round 1: OSError: gone"]


@pytest.mark.parametrize(
    ("target", "measured", "met"),
    [
        (Target("w", "submit", "stdlib", 20.0), 20.0, True),
        (Target("w", "submit", "stdlib", 20.0), 19.9, False),
        (Target("w", "submit", None, 1e6), 1e6, True),
        (Target("w", "submit", None, 1e6), 0.99e6, False),
        (Target("w", "round_trip", None, 10e-6, detail="p99"), 9e-6, True),
        (Target("w", "round_trip", None, 10e-6, detail="p99"), 10e-6, False),
        (Target("w", "cold", None, 0.08), 0.079, True),
        (Target("w", "cold", None, 0.08), 0.08, False),
        (Target("w", "lock", "multiprocessing", 1.4, at_most=True), 1.4, True),
        (Target("w", "lock", "multiprocessing", 1.4, at_most=True), 1.41, False),
    ],
)
def test_a_target_is_met_by_the_median(target: Target, measured: float, met: bool) -> None:
    verdict = Verdict(target, Spread.of([measured]))
    assert verdict.met is met
    assert verdict.headroom is not None
    assert (verdict.headroom.median > 1.0 or math.isclose(verdict.headroom.median, 1.0)) or not met


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    found = verdicts(results(sample(0, "submit", "stdlib", 1.0)))
    assert [verdict.met for verdict in found] == [None, None, None]
    assert {verdict.words for verdict in found} == {"-"}


def test_headroom_of_a_wait_keeps_low_below_high() -> None:
    headroom = Verdict(
        Target("w", "cold", None, 0.08), Spread(0.04, 0.01, 0.16, 0.02, 0.08)
    ).headroom
    assert headroom == Spread(2.0, 0.5, 8.0, 1.0, 4.0)


def test_a_bar_on_the_time_compares_ours_with_theirs() -> None:
    target = Target("w", "lock", "multiprocessing", 1.5, at_most=True)
    run_ = results(
        sample(0, "lock", OURS, 3e-8),
        sample(0, "lock", "multiprocessing", 2e-8),
        sample(1, "lock", OURS, 4e-8),
        sample(1, "lock", "multiprocessing", 2e-8),
    )
    measured = target.measured(run_)
    assert measured is not None
    assert [measured.low, measured.high] == pytest.approx([1.5, 2.0])
    headroom = Verdict(target, measured).headroom
    assert headroom is not None
    assert [headroom.low, headroom.high] == pytest.approx([0.75, 1.0])
    assert target.wanted == "at most 1.5× the time of mp.Lock"


def test_targets_name_benchmarks_and_rivals_that_take_part() -> None:
    for target in TARGETS:
        assert target.benchmark in MEASURES
        if target.rival is not None:
            assert target.rival in run.offered(target.benchmark, NAMES)


def test_schedule_interleaves_and_begins_with_another_one_each_round() -> None:
    plan = list(run.schedule(["submit", "cold"], ["stdlib", "mp_pool", "loky"], 3))
    assert len(plan) == len(set(plan)) == 18
    assert [name for number, what, name in plan if what == "submit" and number == 1] == [
        "mp_pool",
        "loky",
        "stdlib",
    ]
    assert plan == sorted(plan, key=lambda place: place[0])


def test_contenders_sit_out_what_they_do_not_offer() -> None:
    assert "loky" not in run.offered("thread_submit", NAMES)
    assert "joblib" not in run.offered("recover", NAMES)
    assert OURS in run.offered("recover", NAMES)


def test_every_contender_says_how_it_is_called() -> None:
    for name in of_group("pools"):
        text = page.called(name, "pools")
        for operation in ("pool", "submit", "map", "shared array"):
            assert f"- {operation}: " in text
    for group in HEADINGS:
        for name in of_group(group):
            assert "\n- " in page.called(name, group)


def test_ray_takes_part_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.delenv("BENCH_RAY", raising=False)
    assert installed() == [name for name in NAMES if name != "ray"]
    monkeypatch.setenv("BENCH_RAY", "1")
    assert installed() == list(NAMES)


def test_absent_libraries_take_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stdlib = ["stdlib", "mp_pool", "multiprocessing", "mp_simple_queue", "mp_pipe", "mp_lists"]
    servers = ["threading_server", "forking_server", "asyncio"]
    assert installed() == [*stdlib, "threading", "simple_queue", *servers]


def test_pool_chunk_is_that_of_multiprocessing() -> None:
    assert [pool_chunk(length, 2) for length in (1, 8, 9, 1_000_000)] == [1, 1, 2, 125_000]


def test_repeated_keeps_its_bounds() -> None:
    assert repeated(lambda: 1.0, 0.0, at_least=3, at_most=9) == [1.0] * 3
    assert repeated(lambda: 1.0, 60.0, at_least=1, at_most=4) == [1.0] * 4


def test_check_raises_what_a_wrong_result_is() -> None:
    check(True, "all is well")
    with pytest.raises(WrongResult, match="not the argument"):
        check(False, "not the argument")


def test_half_way_at_the_ends_of_the_curve() -> None:
    assert lengths.half_way([1.0, 10.0], [0.6, 0.9]) == 1.0
    assert lengths.half_way([1.0, 10.0], [0.1, 0.2]) is None


def test_source_files_parse() -> None:
    files = mapping.source_files(5)
    assert len(files) == 5
    assert all(definitions >= 0 and names > 0 for definitions, names in map(work.parse, files))


def test_pss_and_descendants_of_this_process() -> None:
    assert memory.pss(os.getpid()) > 1e6
    assert os.getpid() in memory.descendants(os.getppid())


def test_announced_reads_the_file_it_waits_for(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("4711")
    assert recover.announced(path) == 4711


def test_machine_is_described() -> None:
    here = machine.described([OURS, "stdlib"])
    assert here.cpu
    assert here.cpus >= 1
    assert here.memory_bytes > 2**28
    assert list(here.versions) == ["manyhands"]
    assert 0.0 <= machine.Disturbance().share() <= 1.0


def test_results_survive_json(whole_run: Results) -> None:
    back = Results.from_json(whole_run.to_json())
    assert replace(back, entries=[]) == replace(whole_run, entries=[])
    assert {repr(entry) for entry in back.entries} == {repr(entry) for entry in whole_run.entries}


def test_what_failed_survives_json_and_what_was_not_reached() -> None:
    entries = [
        sample(0, "submit", OURS, None),
        sample(1, "submit", OURS, 2.0, p50=1.0),
        Entry(1, "task_length", "loky", None, {"0.01": 0.25}),
    ]
    assert Results.from_json(results(*entries).to_json()).entries == entries


def test_results_take_a_line_for_each_library_of_a_benchmark(whole_run: Results) -> None:
    lines = whole_run.to_json().splitlines()
    places = {(entry.benchmark, entry.contender) for entry in whole_run.entries}
    assert len(lines) == len(places) + 8
    assert '"submit/manyhands": {"round": [0, 1], "value": [' in whole_run.to_json()


def test_a_sample_has_the_mean_and_what_part_of_all_calls_was_as_good() -> None:
    found = waits.sample_of([0.001] * 94 + [0.002] * 5 + [0.1])
    assert found.value == pytest.approx(0.00204)
    assert found.detail == {"p50": 0.001, "p95": 0.002, "p99": 0.002, "calls": 100.0}


def test_a_rate_is_all_items_in_all_the_time() -> None:
    found = waits.rate_of(30, [1.0, 1.0, 4.0])
    assert found.value == pytest.approx(15.0)
    assert found.detail == {"p50": 30.0, "p95": 7.5, "p99": 7.5, "calls": 3.0}


def test_a_round_with_repeats_has_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([0.01, 0.02, 0.06])
    monkeypatch.setattr(run, "child", lambda *_: {"value": next(found), "detail": {}})
    entry = run.taken(0, "cold", OURS, 1.0)
    assert entry.value == pytest.approx(0.03)
    assert entry.detail == {"p50": 0.02, "p95": 0.06, "p99": 0.06, "calls": 3.0}


@pytest.fixture
def charts() -> Iterator[Any]:
    """Return the plots, where there is what draws them."""
    fonts = pytest.importorskip("matplotlib.font_manager")
    yield importlib.import_module("benches.charts")
    fonts._get_font.cache_clear()  # it keeps the fonts' files open


def test_whole_runs_are_recorded(tmp_path: Path, charts: Any) -> None:
    small = results(sample(0, "submit", OURS, 1e6), sample(0, "submit", "stdlib", 1e4))
    report.write(replace(small, scale=0.1), tmp_path, None)
    assert "No whole run" in (tmp_path / "README.md").read_text()
    report.write(small, tmp_path, None)
    assert [line.ratios for line in history.read(tmp_path / report.HISTORY)] == [{"submit": 100.0}]
    assert "2026-11-20 abc1234" in (tmp_path / "README.md").read_text()


def test_everything_is_written(whole_run: Results, tmp_path: Path, charts: Any) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "of_another_run.svg").write_text("old")
    report.write(whole_run, tmp_path / "docs", readme)
    wanted = {f"{name}.svg" for name in (*HEADINGS, "latency", "efficiency")}
    wanted |= {f"targets_{group}.svg" for group in HEADINGS}
    assert {path.name for path in (tmp_path / "docs").glob("*.svg")} == wanted
    text = (tmp_path / "docs" / "README.md").read_text()
    for path in (tmp_path / "docs").glob("*.svg"):
        words = " ".join(ElementTree.fromstring(path.read_text()).itertext())
        assert "nan" not in words
        assert f"({path.name})" in text
        for benchmark in summary.benchmarks(whole_run, cast(Any, path.stem)):
            assert f"{benchmark}: " in words
            for name in summary.values(whole_run, benchmark):
                assert summary.label(benchmark, name) in words
    head, part, tail = readme.read_text().replace(report.END, report.BEGIN).split(report.BEGIN)
    assert (head, tail) == ("before\n", "\nafter\n")
    assert "\nold\n" not in part
    assert all(line in part for line in tables.markdown(comparison_rows(whole_run)).splitlines())
    for target in TARGETS:
        assert target.wanted in text
    for name, measure in MEASURES.items():
        assert f"- `{name}`: {measure.title}" in text


def test_equal_results_give_equal_files(tmp_path: Path, charts: Any) -> None:
    def written() -> dict[str, bytes]:
        report.write(results(sample(0, "submit", OURS, 1e6, p50=1e6, p99=1e5)), tmp_path, None)
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert written() == written()


def test_a_missed_target_says_so(whole_run: Results) -> None:
    part = tables.markdown(tables.target_rows(verdicts(whole_run)))
    submit = next(line for line in part.splitlines() if "at least 20× ProcessPool" in line)
    assert "| **missed** " in submit
    queue = next(line for line in part.splitlines() if "at least 5× mp.Queue" in line)
    assert "| met " in queue


@pytest.mark.parametrize(
    ("ratios", "outcome"),
    [
        ([21.0, 30.0], "met"),
        ([18.6, 232.0], "met, not in every round"),
        ([5.0, 6.0], "**missed**"),
        ([5.0, 6.0, 25.0], "**missed**, not in every round"),
    ],
)
def test_a_target_says_whether_all_rounds_agree(ratios: list[float], outcome: str) -> None:
    verdict = Verdict(Target("w", "submit", "stdlib", 20.0), Spread.of(ratios))
    assert verdict.outcome == outcome


def test_a_disturbed_or_shortened_run_says_so(whole_run: Results) -> None:
    assert "**" not in tables.machine_line(whole_run)
    assert "not quiet" in tables.machine_line(replace(whole_run, disturbance=0.8))
    assert "--quick" in tables.machine_line(replace(whole_run, scale=0.1))


def test_a_length_that_was_never_reached_is_a_curve_without_a_value(charts: Any) -> None:
    detail = {"1e-06": 0.1, "1e-05": 0.2}
    run_ = results(Entry(0, "task_length", OURS, None, detail))
    assert summary.values(run_, "task_length") == {}
    assert summary.errors(run_) == []
    assert charts.efficiencies(run_) == {OURS: [(1e-6, 0.1), (1e-5, 0.2)]}
    assert "manyhands" in charts.plots(run_, [])["efficiency.svg"]


class Damaging:
    """A pool that hands every array over with its middle element changed."""

    def __enter__(self) -> Damaging:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, fn: Any, item: Any) -> Any:
        if not isinstance(item, tuple):
            item = item.copy()
            item[len(item) // 2] += 0.5
            return fn(item)
        return self.submit_all(fn, [item])[0]

    def submit_all(self, fn: Any, items: Any) -> list[Any]:
        arrays = [fn(item).copy() for item in items]
        for array in arrays:
            array[len(array) // 2] += 0.5
        return arrays


@pytest.mark.parametrize("benchmark", ["array", "array_result"])
def test_an_array_damaged_in_the_middle_is_noticed(benchmark: str) -> None:
    pytest.importorskip("numpy")
    measure = MEASURES[benchmark]
    assert isinstance(measure, PoolMeasure)
    make: Any = lambda workers: Damaging()  # noqa: E731
    with pytest.raises(WrongResult, match="damaged"):
        measure.run(make, 0.01)


def test_the_page_says_who_is_better(whole_run: Results) -> None:
    assert "Better than manyhands here: none." in page.behind(whole_run, "pools")
    slow = results(sample(0, "cold", OURS, 0.05), sample(0, "cold", "stdlib", 0.01))
    assert "ProcessPoolExecutor in `cold`" in page.behind(slow, "pools")
    assert "none" in page.behind(slow, "sync")


def test_the_page_shows_what_stands_beside_the_values() -> None:
    detail = {"mean": 2e-4, "most": 8e-4, "p50": 1e-4}
    rows = tables.detail_rows(
        results(
            sample(0, "owner_death", OURS, 6e-4, **detail),
            sample(1, "owner_death", OURS, None),
            sample(1, "submit", OURS, 1e5, p50=1e5),
        ),
        "sync",
    )
    assert rows[1:] == [
        ["owner_death", OURS, "mean", "200 µs"],
        ["owner_death", OURS, "most", "800 µs"],
    ]


def test_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="benchmarks:begin"):
        report.with_part("no marks here", "part")


def test_a_sample_that_fails_tells_why() -> None:
    outcome = run.child("submit", "nobody", 0.01, timeout_s=50.0)
    assert isinstance(outcome, str)
    assert "KeyError: 'nobody'" in outcome


def test_a_sample_that_hangs_is_ended() -> None:
    outcome = run.child("submit", "stdlib", 1.0, timeout_s=0.0)
    assert isinstance(outcome, str)
    assert "no result within" in outcome


def test_a_run_that_is_terminated_leaves_no_sample_behind() -> None:
    words = [sys.executable, "-m", "benches", "--only", "submit", "--against", "stdlib"]
    with subprocess.Popen(words, cwd=run.ROOT, stderr=subprocess.DEVNULL) as process:
        # The leader of the sample's session: reaped before the run ends, hence gone at once.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (samples := children.read_text().split()):
            assert process.poll() is None
            time.sleep(0.001)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not any(Path(f"/proc/{pid}").exists() for pid in samples)


def test_a_group_stands_for_its_benchmarks() -> None:
    assert command.chosen(list(HEADINGS)) == list(MEASURES)
    assert {MEASURES[name].group for name in command.chosen(["sync"])} == {"sync"}
    assert command.chosen(["lock", "submit"]) == ["submit", "lock"]


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--only", "nothing"], ["--against", "us"]])
def test_nonsense_on_the_command_line_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(words)
    assert words[0] in capsys.readouterr().err


def test_a_tiny_run_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], charts: Any
) -> None:
    monkeypatch.setattr(command, "QUICK_SCALE", 0.01)
    only = ("submit", "round_trip", "thread_submit", "cold")
    words = ["--quick", "--rounds", "1", "--against", "stdlib", "--json", "--output", str(tmp_path)]
    for name in only:
        words += ["--only", name]
    assert command.main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "results.json").read_text())
    found = printed["samples"]
    assert set(found) == {f"{name}/{who}" for name in only for who in (OURS, "stdlib")}
    for columns in found.values():
        assert columns["round"] == [0]
        assert all(columns[what][0] > 0.0 for what in ("value", "p50", "p95", "p99"))
    assert not (tmp_path / report.HISTORY).exists()  # nothing to compare whole runs with
    assert (tmp_path / "targets_pools.svg").exists()
    assert not (tmp_path / "targets_sync.svg").exists()


@pytest.mark.parametrize("benchmark", ["map", "recover", "memory", "scaling", "task_length"])
def test_a_benchmark_drives_the_stdlib_and_ours(benchmark: str) -> None:
    for name in (OURS, "stdlib"):
        entry = run.taken(0, benchmark, name, 0.01)
        assert entry.error is None
        # On a busy machine no length of task may reach one half.
        assert entry.value is not None or "1e-06" in entry.detail
        assert entry.value is None or entry.value > 0


@pytest.mark.parametrize("benchmark", ["array", "array_shared", "array_result"])
def test_arrays_reach_the_workers_of_the_stdlib_and_of_ours(benchmark: str) -> None:
    pytest.importorskip("numpy")
    for name in (OURS, "stdlib"):
        assert run.taken(0, benchmark, name, 0.01).error is None


def test_a_thread_contender_is_started_and_stopped() -> None:
    library: Any = contender("stdlib", "pools")
    with library("thread", 2) as pool:
        assert pool.submit_all(work.identity, range(5)) == [0, 1, 2, 3, 4]
        assert pool.call(work.identity, 7) == 7
        assert pool.map(work.identity, range(5)) == [0, 1, 2, 3, 4]
