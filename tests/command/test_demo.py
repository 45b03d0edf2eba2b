"""`manyhands demo`: its parts, its screens in a real terminal, and how it ends."""

from __future__ import annotations

import ast
import gc
import itertools
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

import manyhands as mh
import manyhands.demo
from manyhands.demo import DemoError, Run, _measure
from manyhands.demo._dinosaurs import SERVING_KINDS
from manyhands.demo._jobs import JOBS, Amounts, mapped
from manyhands.demo._pages import PageServer
from manyhands.demo._report import advise
from manyhands.demo._sources import FEWEST_FILES, Sources, find_sources
from terminal import COMMAND, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType


# A library with nothing in it, for the command that is started with it.
EMPTY_LIBRARY = """
import sys, sysconfig
sysconfig.get_path = lambda name: sys.argv[1]
from manyhands.__main__ import main
sys.argv = ["manyhands", "demo"]
sys.exit(main())
"""
# Every task says in which process it ran: the same in all threads, another one in a worker process.
TELLTALE = """
import os, sys
from manyhands.demo._jobs import JOBS, mapped
JOBS["parse"] = JOBS["parse"]._replace(run=mapped(lambda path: os.getpid()))
from manyhands.__main__ import main
sys.argv = ["manyhands", *sys.argv[1:]]
sys.exit(main())
"""


def run_command(*words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, **settings)


# -- the jobs ---------------------------------------------------------------------------------


def test_parse_counts_definitions_and_names(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("class A:\n    def f(self):\n        return a + b\nasync def g(): c = a\n")
    assert manyhands.demo.parse(str(source)) == (3, 4)


def test_parse_reads_the_declared_encoding(tmp_path: Path) -> None:
    source = tmp_path / "latin.py"
    source.write_bytes(b"# coding: latin-1\nname = '\xe9'\n")
    assert manyhands.demo.parse(str(source)) == (0, 1)


def test_compress_takes_files_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
    packed = zlib.compress(b"a" * 1000 + b"b" * 1000, 6)
    expected = (2000, len(packed), zlib.crc32(packed))
    assert manyhands.demo.compress([str(path) for path in paths]) == expected


def test_fetch_gets_a_page_and_waits_for_it() -> None:
    with PageServer(0.05) as server:
        started = perf_counter()
        page = manyhands.demo.fetch(f"{server.url}/page/7")
        assert perf_counter() - started >= 0.05
        body = b"<p>Page 7 of many</p>\n" * 107
        assert page == (200, len(body), zlib.crc32(body))
        assert manyhands.demo.fetch(f"{server.url}/other") == (404, 0, 0)


AMOUNTS = Amounts(files=8, parses=1, bundle=2, compressions=1, pages=4, clients=3, look_ups=4)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, job in JOBS.items() for kind in job.kinds[1:]]
)
def test_every_job_runs_in_every_kind_of_worker(name: str, kind: str) -> None:
    job = JOBS[name]
    told: list[int] = []
    with ExitStack() as stack:
        items = job.items(find_sources(AMOUNTS.files), AMOUNTS, stack)
        expected, _ = job.run("sequential", items, 2, lambda done, of: told.append(done))
        assert told == list(range(1, len(items) + 1))
        results, seconds = job.run(kind, items, 2, lambda done, of: None)
        assert results == expected
        assert seconds > 0.0


def test_look_up_finds_dinosaurs_and_says_what_is_none() -> None:
    record = json.loads(manyhands.demo.look_up(b" BARYONYX\r"))
    assert record["found_in"] == "England"
    assert json.loads(manyhands.demo.look_up(b"cow\xff"))["error"].startswith("no dinosaur is")


def test_clients_get_the_answers_to_what_they_ask() -> None:
    clients = [["baryonyx", "cow"], ["iguanodon"]]
    answers = [
        b"".join(manyhands.demo.look_up(name.encode()) + b"\n" for name in names)
        for names in clients
    ]
    results, _ = JOBS["serve"].run("thread", clients, None, lambda done, of: None)
    assert results == [str(zlib.crc32(answer)) for answer in answers]


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_fetch_refuses_what_is_no_whole_answer(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as other:
        port = listener.getsockname()[1]
        fetching = other.submit(manyhands.demo.fetch, f"http://127.0.0.1:{port}/page/1")
        with listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(answer)
        with pytest.raises(ValueError, match=r"/page/1 was not answered completely: \d+ bytes"):
            fetching.result(30)


# Sockets that nobody could close yet: what Python says of them only when asked.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.on_each_python
def test_ctrl_c_is_heard_at_any_line_of_a_fetch_and_no_finaliser_complains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaints: list[str] = []
    monkeypatch.setattr("sys.unraisablehook", lambda ignored: complaints.append(repr(ignored)))

    def lines_before(most: int) -> Callable[..., Any]:
        left = itertools.repeat(False, most)

        def trace(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            if event == "line" and next(left, True):
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
            return trace

        return trace

    gc.collect()
    gc.disable()  # no finaliser of what other tests have left may run in between
    try:
        with PageServer(0.0) as server:
            for lines in itertools.count():
                sys.settrace(lines_before(lines))
                try:
                    page = manyhands.demo.fetch(f"{server.url}/page/1")
                except KeyboardInterrupt:
                    continue
                finally:
                    sys.settrace(None)
                break
    finally:
        gc.enable()
    assert page.status == 200 and lines > 50
    assert complaints == []


# -- the input --------------------------------------------------------------------------------


def test_sources_are_spread_over_the_library() -> None:
    sources = find_sources(40)
    assert len(set(sources.paths)) == 40
    assert sources.bytes == sum(Path(path).stat().st_size for path in sources.paths)
    assert len({path[len(sources.folder) + 1 :][0] for path in sources.paths}) > 10
    for path in sources.paths:
        ast.parse(Path(path).read_bytes(), path)


def test_sources_leave_out_what_is_not_the_library(tmp_path: Path) -> None:
    for folder in ["", "package", "test", "package/tests", "site-packages", "__pycache__"]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for number in range(FEWEST_FILES):
            (tmp_path / folder / f"m{number:03}.py").touch()
    (tmp_path / "notes.txt").touch()
    sources = find_sources(2 * FEWEST_FILES, str(tmp_path))
    assert len(set(sources.paths)) == 2 * FEWEST_FILES
    assert {Path(path).parent for path in sources.paths} == {tmp_path, tmp_path / "package"}


def test_too_few_sources_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "only.py").touch()
    with pytest.raises(DemoError, match=rf"at least {FEWEST_FILES} .* {tmp_path} has 1"):
        find_sources(10, str(tmp_path))


# -- the page server --------------------------------------------------------------------------


def wait_for_end(pid: int) -> bool:
    """Wait until process `pid` has ended; False if it is still there after ten seconds."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ready, _, _ = select.select([watched], [], [], 10)
        return bool(ready)
    finally:
        os.close(watched)


def test_page_server_ends_with_its_context() -> None:
    with PageServer(0.0) as server:
        assert server._process is not None
        pid = server._process.pid
        with urllib.request.urlopen(f"{server.url}/page/1") as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url}/page/x")
        caught.value.close()
    assert wait_for_end(pid)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{server.url}/page/1")


def test_page_server_ends_with_the_process_that_started_it() -> None:
    program = """
from manyhands.demo._pages import PageServer
with PageServer(0.0) as server:
    print(server._process.pid, flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        assert wait_for_end(pid)


# -- the report -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thread", "process", "expected"),
    [
        (2.2, 1.1, "process"),
        (1.0, 1.1, "thread"),
        (1.08, 1.0, "thread"),
        (1.2, 1.0, "process"),
        (1.9, 1.9, "sequential"),
        (2.4, 2.3, "sequential"),
    ],
)
def test_advice_prefers_the_simpler_of_equals(thread: float, process: float, expected: str) -> None:
    times = {"sequential": 2.0, "thread": thread, "process": process, "auto": 0.1}
    runs = [Run(kind, seconds, 2.0 / seconds, 1.0) for kind, seconds in times.items()]
    advice = advise("job", runs)
    assert (advice.job, advice.kind) == ("job", expected)
    assert advice.speed_up == 2.0 / times[expected]


@pytest.mark.parametrize(
    ("thread", "process", "expected"),
    [(2.0, 1.0, "process"), (1.4, 1.0, "thread"), (2.1, 1.5, "sequential")],
)
def test_on_a_busy_machine_only_large_differences_count(
    thread: float, process: float, expected: str
) -> None:
    times = {"sequential": 2.0, "thread": thread, "process": process, "auto": 0.1}
    runs = [Run(kind, seconds, 2.0 / seconds, 1.0, 8.0) for kind, seconds in times.items()]
    assert advise("job", runs, busy=True).kind == expected


@pytest.mark.parametrize("others", [0.0, 7.5])
def test_a_report_says_who_else_wanted_the_cpus(
    others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_measure, "runnable_others", lambda own, cpus: others)
    report = manyhands.demo.run(["fetch"], quick=True)
    assert [run.others for run in report.jobs[0].runs] == [others] * 4
    assert report.others == report.jobs[0].others == others
    # With 16 CPUs, 7.5 threads leave as many as anybody needs.
    assert report.busy == (others > 0.5 * report.setting.cpus)


class Witness:
    """A view that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.shares: dict[int, list[float]] = {}

    def begin(self, setting: manyhands.demo.Setting) -> None:
        self.told.append(f"begin {setting.files}")

    def progress(self, job: str, kind: str, share: float, run: int, runs: int) -> None:
        assert 1 <= run <= runs == 8
        self.shares.setdefault(run, []).append(share)

    def finish(self, job: manyhands.demo.JobReport) -> None:
        self.told.append(job.name)


def test_report_covers_every_kind_and_tells_its_view() -> None:
    witness = Witness()
    report = manyhands.demo.run(["fetch", "parse"], workers=2, quick=True, view=witness)
    assert witness.told == [f"begin {report.setting.files}", "fetch", "parse"]
    assert sorted(witness.shares) == list(range(1, 9))
    for shares in witness.shares.values():
        assert shares[0] == 0.0
        assert shares[-1] == 1.0
        assert shares == sorted(shares)
    assert report.equal
    for job in report.jobs:
        assert [run.kind for run in job.runs] == ["sequential", "thread", "process", "auto"]
        assert all(run.seconds > 0 for run in job.runs)
        assert job.runs[0].speed_up == 1.0
        assert job.choice in {"sequential", "thread", "process"}
        assert job.reason
        assert "\n" not in job.reason


def test_unknown_jobs_are_errors() -> None:
    with pytest.raises(KeyError, match="dance"):
        manyhands.demo.run(["dance"])


def test_differing_results_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def items(_: Sources, __: Amounts, ___: ExitStack) -> list[Any]:
        return [1, 2, 3]

    telltale: Callable[[Any], object] = lambda item: (item, os.getpid())  # noqa: E731
    changed = JOBS["parse"]._replace(items=items, run=mapped(telltale))
    monkeypatch.setitem(JOBS, "parse", changed)
    report = manyhands.demo.run(["parse"], quick=True)
    assert not report.equal
    here = os.getpid()
    expected = rf"process, task 0: \(1, \d+\) instead of \(1, {here}\)"
    different = report.jobs[0].differences
    assert different
    assert re.fullmatch(expected, different[0])


# -- the command ------------------------------------------------------------------------------


def test_json_holds_what_the_documentation_says() -> None:
    done = run_command("demo", "--quick", "--json", "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    documentation = manyhands.demo.__doc__ or ""
    assert set(report) == {"setting", "jobs", "equal", "others", "busy", "seconds"}
    for field in [*report, *report["setting"], *report["jobs"][0]]:
        assert re.search(rf"``(jobs\[\]\.)?{field}``", documentation), field
    assert [job["name"] for job in report["jobs"]] == ["parse", "compress", "fetch", "serve"]
    assert report["equal"] is True
    assert report["setting"]["cpus"] >= 1
    assert report["setting"]["manyhands"] == mh.__version__
    for job in report["jobs"]:
        assert job["best"] in {run["kind"] for run in job["runs"]} - {"auto"}
        fields = {"kind", "seconds", "speed_up", "rate", "others"}
        assert [set(run) for run in job["runs"]] == [fields] * len(job["runs"])
        assert all(run["rate"] == job["tasks"] / run["seconds"] for run in job["runs"])
    serving = report["jobs"][-1]
    assert [run["kind"] for run in serving["runs"]] == list(SERVING_KINDS)
    assert serving["choice"] is None


def test_piped_table_is_plain_and_80_columns_wide() -> None:
    colourful = {**os.environ, "TERM": "xterm"}
    done = run_command("demo", "--quick", "--jobs", "fetch,parse,serve", env=colourful)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert max(map(len, lines)) == 80
    rows = [line.split()[0] for line in lines if re.search(r"\d\.\d\d s +\d+\.\d+.$", line)]
    kinds = [kind for name in ("fetch", "parse", "serve") for kind in JOBS[name].kinds]
    assert rows == kinds
    titles = [line.split()[0] for line in lines if line.endswith("speed-up")]
    assert titles == ["fetch", "parse", "serve"]
    assert len([line for line in lines if line.startswith("  auto → ")]) == 2
    # It may need another line.
    _, _, rates = done.stdout.partition("\n  a second: ")
    rates = rates.partition("\n\n")[0]
    assert re.findall(r"(\w+)\s+[\d,]+\d(?:,|$)", rates) == list(SERVING_KINDS)
    assert "All results are equal." in lines[-1]


def test_version_and_usage() -> None:
    assert run_command("--version").stdout == f"manyhands {mh.__version__}\n"
    wrong = run_command("demo", "--jobs", "dance")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "possible values: parse, compress, fetch, serve" in wrong.stderr
    assert "Usage: manyhands demo [OPTIONS]" in run_command("demo", "--help").stdout


def test_results_that_differ_make_the_command_fail() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELLTALE, "demo", "--quick", "--jobs", "parse"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"^  different: process, task 0: \d+ instead of \d+$", done.stdout, re.M)
    assert "Results differ" in done.stdout


def test_a_python_without_its_library_is_told_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EMPTY_LIBRARY, str(tmp_path)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"manyhands: the demo needs at least .*\n", done.stderr)


@pytest.mark.parametrize("words", [["demo", "--quick"], ["demo", "--quick", "--json"], ["--help"]])
def test_a_reader_that_leaves_is_no_error(words: Sequence[str]) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    with open(writable, "wb") as closed:
        done = subprocess.run([*COMMAND, *words], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""
    assert done.returncode == 0


# -- in a terminal ----------------------------------------------------------------------------


def test_terminal_shows_progress_and_colours() -> None:
    with Terminal(120, "demo", "--quick", "--jobs", "parse") as terminal:
        assert terminal.end() == 0
    for number in range(1, 5):
        assert f"run {number} of 4" in terminal.written
    # What is left on the screen: each line as it was after its last erasure.
    screen = [line.rsplit("\x1b[2K")[-1] for line in terminal.written.split("\r\n")]
    assert not any("run " in line for line in screen)
    assert any("\x1b[32m" in line for line in screen)
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in screen]
    assert max(map(len, plain)) == 100


def test_terminal_without_colours() -> None:
    with Terminal(80, "demo", "--quick", "--jobs", "parse", NO_COLOR="1") as terminal:
        assert terminal.end() == 0
    assert "run 4 of 4" in terminal.written
    assert not re.search(r"\x1b\[[\d;]*m", terminal.written)


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        ("fetch", "sequential"),
        ("fetch", "thread"),
        ("fetch", "process"),
        ("serve", "sequential"),
        ("parse", "thread"),
        ("parse", "process"),
    ],
)
def test_ctrl_c_says_one_line_and_leaves_nobody(job: str, kind: str) -> None:
    with Terminal(80, "demo", "--jobs", job, NO_COLOR="1") as terminal:
        terminal.read_until(rf"{job} · {kind} .*[1-9]\d* %")
        terminal.press(b"\x03")
        assert terminal.end() == 128 + signal.SIGINT
        assert all(wait_for_end(pid) for pid in terminal.left_over())
    after = terminal.written.rsplit("\x1b[2K")[-1]
    assert after == "manyhands: interrupted\r\n"
