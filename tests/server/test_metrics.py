"""What a server tells about itself over HTTP, and that asking it cannot hurt it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eventually import eventually
from manyhands import _native
from manyhands._server.counts import NUMBERS
from manyhands.server import Server
from rules import ROOT
from serving import WATCHDOG, ask, client, read_all, serving


def echo(connection: socket.socket) -> None:
    while data := connection.recv(100):
        connection.sendall(data)


async def echo_streams(reader: Any, writer: Any) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()


def connected(address: Any) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    made = socket.socket(family)
    made.settimeout(WATCHDOG)
    made.connect(address)
    return made


def get(server: Server, path: str, method: str = "GET") -> http.client.HTTPResponse:
    """Return the answer of a server's metrics."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connected(server.metrics_address)
    try:
        connection.request(method, path)
        return connection.getresponse()
    finally:
        connection.close()


def statistics(server: Server) -> dict[str, Any]:
    with get(server, "/statistics") as answer:
        assert answer.getheader("Content-Type") == "application/json"
        report: dict[str, Any] = json.load(answer)
        return report


def samples(server: Server) -> dict[tuple[str, str], float]:
    """Return what Prometheus reads: the value of each name and process."""
    with get(server, "/metrics") as answer:
        assert answer.getheader("Content-Type", "").startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    assert all(each.documentation for each in families), text
    found = [each for family in families for each in family.samples]
    return {(each.name, each.labels.get("pid", "")): each.value for each in found}


def health(server: Server) -> int:
    with get(server, "/healthz") as answer:
        return answer.status


@contextmanager
def load(server: Server, seconds: float) -> Iterator[None]:
    """Have clients come and go all the time."""
    host, port = server.server_address

    def run() -> None:
        _native.run_load(
            f"{host}:{port}",
            connections=4,
            request=b"x",
            answer=1,
            reconnect=True,
            seconds=seconds,
        )

    loading = threading.Thread(target=run)
    loading.start()
    try:
        yield
    finally:
        loading.join(WATCHDOG)


@pytest.mark.parametrize("workers", ["thread", "process", "coroutine"])
def test_all_numbers_are_told_with_their_names(workers: Any, tmp_path: Path) -> None:
    path = f"unix:{tmp_path / 'metrics'}"
    handler = echo_streams if workers == "coroutine" else echo
    with serving(handler, workers=workers, max_workers=2, metrics=path) as server:
        eventually(lambda: health(server) == 200, "it serves")
        assert stat.S_IMODE((tmp_path / "metrics").stat().st_mode) == 0o600
        assert ask(server, b"hello") == b"hello"
        eventually(lambda: server.statistics()["served"] == 1, "it is counted")
        report, values = statistics(server), samples(server)
        assert report["statistics"] == server.statistics()
        assert (report["workers"], report["phase"], report["answers"]) == (workers, "serving", True)
        for name, sort, _ in NUMBERS:
            end = "_total" if sort == "total" else ""
            assert values[f"manyhands_server_{name}{end}", ""] == report["statistics"][name]
        pids = {str(each["pid"]) for each in report["processes"]}
        assert len(pids) == (2 if workers == "process" else 0)
        assert {pid for _, pid in values if pid} == pids
        served = [
            value for (name, _), value in values.items() if name.endswith("process_served_total")
        ]
        assert sum(served) == (1 if workers == "process" else 0)
    assert not (tmp_path / "metrics").exists()


def test_numbers_are_described_where_users_look() -> None:
    page = (ROOT / "docs" / "command" / "metrics.md").read_text(encoding="utf-8")
    rows = [f"| `{name}` | {sort} | {meaning} |" for name, sort, meaning in NUMBERS]
    assert "\n".join(rows) in page
    assert Server.statistics.__doc__ is not None
    missing = [name for name, *_ in NUMBERS if f"``{name}``" not in Server.statistics.__doc__]
    assert not missing


def test_a_port_alone_is_one_of_this_machine() -> None:
    with serving(echo, metrics=0) as server:
        assert server.metrics_address[0] == "127.0.0.1"
        with get(server, "/healthz", "HEAD") as answer:
            assert answer.read() == b""
        with get(server, "/other") as answer:
            assert answer.status == 404 and b"/metrics" in answer.read()
        with get(server, "/metrics", "POST") as answer:
            assert answer.status == 501


def test_an_address_that_is_taken_is_said_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="in use"):
            Server(("127.0.0.1", 0), echo, metrics=taken.getsockname())
    with pytest.raises(ValueError, match="no address"):
        Server(("127.0.0.1", 0), echo, metrics="nowhere")
    with pytest.raises(ValueError, match="for datagrams"):
        Server(("127.0.0.1", 0), echo, metrics="udp:127.0.0.1:0")


def test_datagrams_are_told_too_and_too_long_ones_as_refused() -> None:
    def upper(data: bytes, _address: object) -> bytes:
        return data.upper()

    with (
        serving(upper, "udp:127.0.0.1:0", max_packet_size=5, metrics=0) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        sender.settimeout(WATCHDOG)
        sender.connect(server.server_address)
        sender.send(b"hello")
        assert sender.recv(10) == b"HELLO"
        sender.send(b"too long")
        # Nothing comes after it that would publish the number.
        eventually(lambda: statistics(server)["statistics"]["refused"] == 1, "it is counted")
        assert statistics(server)["address"].startswith("udp:127.0.0.1:")
        assert statistics(server)["statistics"]["overflowed"] == 0


def test_it_can_be_served_again_and_numbers_go_on() -> None:
    with Server(("127.0.0.1", 0), echo, metrics=0) as server:
        for run in (1, 2):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            assert ask(server, b"x") == b"x"
            eventually(lambda: server.statistics()["active"] == 0, "it has left")
            assert statistics(server)["statistics"]["served"] == run
            server.shutdown()
            thread.join(WATCHDOG)
        assert server.report()["phase"] == "idle" and not server.report()["answers"]


def test_readers_that_do_not_read_or_ask_are_sent_away() -> None:
    with serving(echo, metrics=0) as server:
        idle = [connected(server.metrics_address) for _ in range(32)]
        idle[0].sendall(b"GET /metrics HTTP/1.0\r\nX: ")
        endless = connected(server.metrics_address)
        endless.sendall(b"GET /" + b"x" * 70_000 + b" HTTP/1.0\r\n\r\n")
        assert ask(server, b"x") == b"x"
        began = time.monotonic()
        assert health(server) in (200, 503)
        assert time.monotonic() - began < WATCHDOG
        for each in [*idle, endless]:
            with each:
                try:
                    answer = read_all(each)
                except ConnectionResetError:
                    answer = b""
            assert answer == b"" or b" 414 " in answer.splitlines()[0]


def one_that_serves(server: Server, but: int) -> int:
    """Return a process that serves, once there is one other than `but`."""
    found: list[int] = []

    def look() -> bool:
        processes = statistics(server)["processes"]
        found[:] = [each["pid"] for each in processes if each["phase"] == "serving"]
        return bool({*found} - {but})

    eventually(look, "another process serves")
    return ({*found} - {but}).pop()


def test_numbers_never_go_backwards_whatever_happens_to_a_process() -> None:
    lasting = {f"manyhands_server_{name}_total" for name, sort, _ in NUMBERS if sort == "total"}
    with serving(echo, workers="process", max_workers=2, metrics=0) as server:
        eventually(lambda: health(server) == 200, "it serves")
        last = dict.fromkeys(lasting, 0.0)
        stopped = 0
        with load(server, 6.0):
            for scrape in range(100):
                values = samples(server)
                now = {name: values[name, ""] for name in lasting}
                assert all(now[name] >= last[name] for name in lasting), (last, now)
                last = now
                if scrape in (20, 60):
                    os.kill(one_that_serves(server, stopped), signal.SIGKILL)
                if scrape == 40:
                    stopped = one_that_serves(server, 0)
                    os.kill(stopped, signal.SIGSTOP)
                if scrape == 80:
                    os.kill(stopped, signal.SIGKILL)
                time.sleep(0.04)
        eventually(lambda: server.statistics()["replaced"] == 3, "they are replaced")
        eventually(lambda: server.statistics()["active"] == 0, "all have left")
        numbers = server.statistics()
        assert last["manyhands_server_served_total"] > 100
        assert numbers["accepted"] == numbers["served"] + numbers["lost"], numbers


def test_one_process_that_stands_still_is_told_and_the_others_serve() -> None:
    with serving(echo, workers="process", max_workers=2, metrics=0) as server:

        def answers() -> dict[int, bool]:
            return {each["pid"]: each["answers"] for each in statistics(server)["processes"]}

        eventually(lambda: list(answers().values()) == [True, True], "both do")
        stopped, other = answers()
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: not answers()[stopped], "it is seen")
        assert samples(server)["manyhands_server_process_answers", str(stopped)] == 0
        assert health(server) == 200
        os.kill(other, signal.SIGSTOP)
        eventually(lambda: health(server) == 503, "nobody serves")
        os.kill(other, signal.SIGCONT)
        eventually(lambda: health(server) == 200, "one serves")
        os.kill(stopped, signal.SIGCONT)


def test_a_server_that_ends_is_not_healthy_any_more() -> None:
    go = threading.Event()

    def hold(connection: socket.socket) -> None:
        connection.sendall(b"x")
        assert go.wait(WATCHDOG)

    with serving(hold, metrics=0) as server:
        eventually(lambda: health(server) == 200, "it serves")
        with client(server) as held:
            assert held.recv(1) == b"x"
            ending = threading.Thread(target=server.shutdown, args=(WATCHDOG,))
            ending.start()
            eventually(lambda: health(server) == 503, "it ends")
            assert statistics(server)["phase"] == "ending"
            go.set()
            ending.join(WATCHDOG)
