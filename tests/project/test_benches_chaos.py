"""Reloads and kills: what ours loses, that each rival is driven, and what clients notice."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from benches.chaos import __main__ as command
from benches.chaos import worker
from benches.chaos.client import HOST, clients
from benches.chaos.storm import KILL, RELOAD, stormed
from benches.chaos.supervisor import KINDS, OURS
from benches.chaos.tally import Failure, Held, Tally
from eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.benches

KINDS_OF_OURS = [name for name, kind in KINDS.items() if kind.distribution == OURS]
RIVALS = [name for name in KINDS if name not in KINDS_OF_OURS]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\ndino 1\n"


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("name", KINDS_OF_OURS)
def test_ours_loses_only_what_killed_workers_had(name: str, keeps: bool) -> None:
    result = stormed(name, KINDS[name], keeps, reloads=4, kills=3, log=None)
    assert not result.failed, (result.others, result.ended)
    assert result.unsettled == 0
    assert (len(result.seconds[RELOAD]), len(result.seconds[KILL])) == (4, 3)
    assert result.tally.answered > 100
    assert result.lost <= result.held


@pytest.mark.parametrize("name", RIVALS)
def test_each_rival_is_driven(name: str) -> None:
    result = stormed(name, KINDS[name], False, reloads=1, kills=1, log=None)
    assert not result.ended
    assert result.unsettled == 0
    assert result.tally.answered > 20
    assert (len(result.seconds[RELOAD]), len(result.killed)) == (1, 1)


def test_the_command_prints_a_row_for_each_server(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--only", "manyhands", "--only", "uvicorn", "--reloads", "1", "--kills", "0"]
    assert command.main(words) == 0
    _, _, ours, theirs, *_ = capsys.readouterr().out.splitlines()
    assert ours.startswith("| manyhands 0.") and "| 1, 0 " in ours
    assert theirs.startswith("| uvicorn ") and "| 1, 0 " in theirs


def test_a_server_that_ends_is_said_to_have_ended() -> None:
    kind = KINDS["uvicorn"]
    broken = type(kind)(kind.distribution, "uvicorn no_such_module:app --port {port}")
    result = stormed("uvicorn", broken, False, reloads=1, kills=0, log=subprocess.DEVNULL)
    assert "it has ended with" in result.ended
    assert result.failed


@contextmanager
def behaving(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Accept connections one after the other, and serve them so; yields the port."""
    with socket.create_server((HOST, 0)) as listening:

        def run() -> None:
            while True:
                connection, _ = listening.accept()
                with connection:
                    if not connection.recv(100):
                        return
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            # Behind those that are queued: they have been asked for, or have been closed.
            with socket.create_connection(listening.getsockname()):
                pass
            thread.join()


def reset(connection: socket.socket) -> None:
    """Close with something unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def answer_once(connection: socket.socket) -> None:
    """Answer, and close as the next request is on its way."""
    connection.sendall(GOOD)
    connection.recv(100)


@pytest.mark.parametrize(
    ("serve", "keeps", "how"),
    [
        (lambda connection: None, False, Failure.EMPTY),
        (reset, False, Failure.RESET),
        (lambda connection: connection.sendall(GOOD[:-3]), False, Failure.CUT),
        (
            lambda connection: connection.sendall(GOOD.replace(b"dino", b"lion")),
            True,
            Failure.WRONG,
        ),
        (lambda connection: connection.sendall(GOOD.replace(b"200", b"500")), True, Failure.WRONG),
        (lambda connection: connection.sendall(b"hello\r\n\r\n"), True, Failure.WRONG),
        (answer_once, True, Failure.OVERTAKEN),
    ],
)
def test_clients_say_how_a_request_has_failed(
    serve: Callable[[socket.socket], object], keeps: bool, how: Failure
) -> None:
    tally = Tally()
    with behaving(serve) as port, clients(port, keeps, tally):
        eventually(lambda: len(tally.failures) >= 3, "requests fail")
    assert {failed.how for failed in tally.failures} == {how}


def test_clients_notice_that_nobody_listens() -> None:
    with socket.create_server((HOST, 0)) as listening:
        port = listening.getsockname()[1]
    tally = Tally()
    with clients(port, False, tally):
        eventually(lambda: len(tally.failures) >= 3, "requests fail")
    assert {failed.how for failed in tally.failures} == {Failure.REFUSED}
    assert tally.answered == 0


def test_a_connection_closed_between_requests_is_no_failure() -> None:
    tally = Tally()
    with behaving(lambda connection: connection.sendall(GOOD)) as port, clients(port, True, tally):
        eventually(lambda: tally.answered >= 20, "requests are answered")
    assert all(failed.how is Failure.OVERTAKEN for failed in tally.failures)
    assert tally.workers(0.0) == {1}


def test_what_a_worker_had_is_known_when_it_is_killed() -> None:
    program = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0), backlog=8); "
        "print(s.getsockname()[1], flush=True); c = s.accept(); print(flush=True); time.sleep(99)"
    )
    words = [sys.executable, "-c", program]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        address = HOST, int(process.stdout.readline())
        with socket.create_connection(address) as accepted, socket.create_connection(address):
            process.stdout.readline()
            assert worker.is_alive(process.pid)
            held = worker.kill(process.pid)
            # The other one waits in the listener's queue.
            assert held.ports == {accepted.getsockname()[1]}
        process.wait()
    assert not worker.is_alive(process.pid)


def test_only_what_a_killed_worker_had_is_put_down_to_it() -> None:
    tally = Tally()
    before = time.monotonic()
    held = Held(frozenset({1000}), time.monotonic())
    tally.fail(Failure.RESET, 1000, before)
    tally.fail(Failure.RESET, 2000, before)
    # The same port of a later connection.
    tally.fail(Failure.EMPTY, 1000, time.monotonic())
    tally.fail(Failure.REFUSED, 0, time.monotonic())
    assert [failed.port for failed in tally.others([held])] == [2000, 1000, 0]
