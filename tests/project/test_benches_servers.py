"""The benchmarks of servers: that each is driven, that wrong ones are noticed, and how they end."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benches import machine, run, tables
from benches.contenders import NAMES, OURS, contender, distribution, of_group
from benches.measure import WrongResult
from benches.measures import MEASURES
from benches.measures.servers import Load, Outcome, check_echo, echoed, idle_connections
from benches.page import called, section
from benches.server import HOST
from benches.server_process import ServerFailed, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.benches

SERVERS = [name for name, measure in MEASURES.items() if measure.group == "servers"]

# Servers that do something else than they are asked for; each in a process, so in a file.
WRONG = '''
import socketserver
import time

from benches.server import ClosingHandler, HOST, KeepingHandler, ServerContender


class Damaging(KeepingHandler):
    """Sends back as many bytes, of which the last is wrong."""

    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data[:-1] + bytes([data[-1] ^ 1]))


class Short(KeepingHandler):
    """Answers the first client, and breaks off for others."""

    clients = 0

    def handle(self):
        Short.clients += 1
        if Short.clients == 1:
            return super().handle()
        data = self.request.recv(65536)
        self.request.sendall(data[:100])


class Forgetful(KeepingHandler):
    """Closes connections on which nothing is said for a moment."""

    def handle(self):
        self.request.settimeout(0.05)
        try:
            super().handle()
        except TimeoutError:
            pass


class Served(ServerContender):
    handler = None

    def serve(self, manners, tell):
        socketserver.ThreadingTCPServer.request_queue_size = 512
        socketserver.ThreadingTCPServer.daemon_threads = True
        with socketserver.ThreadingTCPServer((HOST, 0), self.handler) as server:
            tell(server.server_address[1])
            server.serve_forever()


class DamagingServer(Served):
    handler = Damaging


class ShortServer(Served):
    handler = Short


class ForgetfulServer(Served):
    handler = Forgetful


class Silent(ServerContender):
    def serve(self, manners, tell):
        time.sleep(600)


class Absent(ServerContender):
    def serve(self, manners, tell):
        raise ImportError("it is not installed")
'''


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a module of servers that are wrong."""
    Path(tmp_path, "wrong_servers.py").write_text(WRONG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{run.ROOT}")
    yield importlib.import_module("wrong_servers")
    del sys.modules["wrong_servers"]


def library(name: str) -> Any:
    wanted = distribution(name)
    if wanted is not None and importlib.util.find_spec(wanted) is None:
        pytest.skip(f"{wanted} is not installed")
    return contender(name, "servers")


@pytest.mark.parametrize(
    ("benchmark", "name"),
    [(benchmark, name) for benchmark in SERVERS for name in run.offered(benchmark, NAMES)],
)
def test_a_benchmark_drives_every_server(benchmark: str, name: str) -> None:
    library(name)
    entry = run.taken(0, benchmark, name, 0.01)
    assert entry.error is None
    assert entry.value is not None
    assert entry.value > 0.0
    # Connections that are not kept have no shares, and fifty idle ones fit into what there is.
    unsure = {("serve_crowd", "memory")}
    unsure |= {(name, "busiest_to_idlest") for name in SERVERS if name.endswith("_connections")}
    for what in MEASURES[benchmark].details:
        if (benchmark, what) not in unsure:
            assert entry.detail[what] > 0.0
    assert benchmark in ("serve_idle", "serve_crowd") or entry.detail["calls"] >= 200


def test_each_server_has_what_it_is_compared_with() -> None:
    assert run.offered("serve_echo", NAMES) == list(of_group("servers"))
    assert run.offered("serve_process_echo", NAMES) == [OURS, "forking_server"]
    assert run.offered("serve_streams", NAMES) == [OURS, "asyncio", "uvloop"]
    assert run.offered("serve_messages", NAMES) == [OURS, "uvloop"]


def test_a_wrong_answer_is_noticed(wrong: Any) -> None:
    with pytest.raises(WrongResult, match="the answer is not the request"):
        MEASURES["serve_echo"].sample(wrong.DamagingServer, 0.01)


@pytest.mark.parametrize("benchmark", ["serve_echo", "serve_connections"])
def test_requests_that_fail_are_counted_and_no_result(wrong: Any, benchmark: str) -> None:
    with pytest.raises(WrongResult, match=r"requests failed beside 0 answered: \d+ × "):
        MEASURES[benchmark].sample(wrong.ShortServer, 0.01)


def test_an_idle_connection_that_is_given_up_is_noticed(wrong: Any) -> None:
    with (
        ServerProcess(wrong.ForgetfulServer, "keep") as server,
        pytest.raises(WrongResult, match="the answer is not the request"),
        idle_connections(server.port, 3),
    ):
        time.sleep(0.3)


def test_a_server_that_never_answers_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benches.measures.servers.LOAD_S", 0.5)
    monkeypatch.setattr("benches.measures.servers.ANSWER_S", 0.2)
    with socket.create_server((HOST, 0)) as deaf:
        port = deaf.getsockname()[1]
        with pytest.raises(WrongResult, match=r"no answer within"):
            check_echo(port)
        with pytest.raises(WrongResult, match=r"0 of 10 requests answered"):
            Load(port, 2, reconnect=False).put(10, 0.0, 1000.0)


def test_a_server_that_does_not_listen_is_ended(
    wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerFailed, match="has ended before it listened"):
        ServerProcess(wrong.Absent, "keep")
    monkeypatch.setattr("benches.server_process.PATIENCE_S", 0.5)
    mark = marked(monkeypatch)
    with pytest.raises(ServerFailed, match="does not listen after"):
        ServerProcess(wrong.Silent, "keep")
    assert processes_with(mark) == []


def test_a_load_goes_on_until_enough_is_answered() -> None:
    with ServerProcess(library("threading_server"), "keep") as server:
        load = Load(server.port, 4, reconnect=False)
        # The rate is given a thousand times too high, so the first load is too short.
        outcome = load.put(3_000, 0.0, 1e7)
    assert len(outcome.waits) >= 3_000
    assert len(outcome.shares) == 4
    assert 0 < sum(outcome.shares) <= len(outcome.waits)


def test_details_of_waits_and_shares() -> None:
    outcome = Outcome([0.001] * 94 + [0.002] * 5 + [0.1], 0.5, [40, 10, 50])
    assert outcome.rate == pytest.approx(200.0)
    assert outcome.detail() == {
        "wait_p50": 0.001,
        "wait_p95": 0.002,
        "wait_p99": 0.002,
        "busiest_to_idlest": 5.0,
        "calls": 100.0,
    }
    assert Outcome([0.1], 1.0, [7, 0]).detail()["busiest_to_idlest"] == 7.0
    assert "busiest_to_idlest" not in Outcome([0.1], 1.0, []).detail()


def test_the_page_shows_waits_and_how_servers_are_called() -> None:
    entries = [
        run.Entry(0, "serve_echo", OURS, 3e4, {"wait_p99": 0.004, "busiest_to_idlest": 1.25}),
        run.Entry(0, "serve_echo", "threading_server", 2e4, {"wait_p99": 0.01}),
    ]
    here = machine.described([])
    found = run.Results(here, 1, 1.0, 0.0, entries)
    assert tables.detail_rows(found, "servers")[1:] == [
        ["serve_echo", OURS, "wait_p99", "4.00 ms"],
        ["serve_echo", OURS, "busiest_to_idlest", "1.25×"],
        ["serve_echo", "ThreadingTCPServer", "wait_p99", "10.0 ms"],
    ]
    text = section(found, "servers")
    assert "at least 1.2× ThreadingTCPServer" in text
    assert "| met " in text
    assert "StreamServer" in called("gevent", "servers")


def marked(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a mark that is in the environment of every process started from now on."""
    mark = f"BENCHES_MARK={uuid.uuid4().hex}"
    monkeypatch.setenv(*mark.split("="))
    return mark


def processes_with(mark: str) -> list[int]:
    """Return the processes with the mark in their environment, those not reaped left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def gone(mark: str) -> bool:
    """Wait until no process has the mark."""
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        if not processes_with(mark):
            return True
        time.sleep(0.01)
    return False


def test_what_a_server_has_forked_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = marked(monkeypatch)
    with ExitStack() as opened:
        server = opened.enter_context(ServerProcess(library("forking_server"), "keep"))
        for _ in range(3):
            client = socket.create_connection((HOST, server.port), 20.0)
            echoed(opened.enter_context(client))
        assert len(processes_with(mark)) == 4
        server.end()
        assert gone(mark)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_server_behind(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    mark = marked(monkeypatch)
    words = [sys.executable, "-m", "benches", "--only", "serve_echo", "--against", "forking_server"]
    with subprocess.Popen(words, cwd=run.ROOT, stderr=subprocess.DEVNULL) as process:
        # The run, a sample, the server of that, and what it has forked for the load: a server that
        # is just starting would end by itself, with nobody to tell its port.
        while len(processes_with(mark)) < 10:
            assert process.poll() is None
            time.sleep(0.001)
        if number == signal.SIGKILL:
            # No handler runs: the sample would go on. Its server ends with it all the same.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            os.kill(process.pid, number)
            for sample in map(int, children.split()):
                os.kill(sample, number)
        else:
            process.send_signal(number)
        process.wait(30)
    assert gone(mark)
