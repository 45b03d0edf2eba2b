"""What goes wrong with the processes of a server, and what it survives."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from eventually import eventually
from manyhands._server import process_crew
from manyhands.server import Server
from serving import WATCHDOG, client, run_program, serving


def who(connection: socket.socket) -> None:
    """Answer with the number of the process."""
    connection.sendall(b"%d" % os.getpid())


def whoever_serves(server: Server) -> int:
    with client(server) as connection:
        return int(connection.recv(100))


class Leaves:
    """A handler whose process ends as if all were well, before it is ready."""

    def __reduce__(self) -> Any:
        return os._exit, (0,)

    def __call__(self, connection: socket.socket) -> None: ...


def test_a_signal_of_real_time_kills_one_process(caplog: pytest.LogCaptureFixture) -> None:
    with serving(who, workers="process", max_workers=1) as server:
        before = whoever_serves(server)
        os.kill(before, signal.SIGRTMIN + 1)
        assert whoever_serves(server) != before
    assert f"was killed by signal {signal.SIGRTMIN + 1}" in caplog.text


def test_processes_that_leave_before_they_are_ready_are_given_up() -> None:
    with Server(("127.0.0.1", 0), Leaves(), workers="process", max_workers=1) as server:
        with pytest.raises(OSError, match="cannot be served: its last process has ended with 0"):
            server.serve_forever()


def test_a_stopped_process_holds_up_nobody_who_counts(caplog: pytest.LogCaptureFixture) -> None:
    with serving(who, workers="process", max_workers=1) as server:
        stopped = whoever_serves(server)
        os.kill(stopped, signal.SIGSTOP)

        def count_and_end() -> None:
            assert server.statistics()["accepted"] == 1
            server.shutdown(grace=0)

        counting = threading.Thread(target=count_and_end)
        counting.start()
        counting.join(WATCHDOG)
        hangs = counting.is_alive()
        if hangs:
            os.kill(stopped, signal.SIGKILL)
        assert not hangs
    assert [f"process {stopped}" in each.message for each in caplog.records] == [True]
    assert "does not end, and is killed" in caplog.text


def test_a_reload_of_which_a_part_fails_leaves_as_many_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two new processes one fails at once, and the other starts once the old ones go on."""
    (tmp_path / "half.py").write_text(f"""
import os, pathlib, time
folder = pathlib.Path({str(tmp_path)!r})
fails = folder / "fails"
if fails.exists():
    try:
        fails.rename(folder / "failed")
    except OSError:
        pass
    else:
        os._exit(4)
    time.sleep(0.3)
def who(connection):
    connection.sendall(b"%d" % os.getpid())
""")
    monkeypatch.syspath_prepend(tmp_path)
    handler = importlib.import_module("half").who

    first: set[int] = set()

    def both_are_new() -> bool:
        now = {whoever_serves(server) for _ in range(50)}
        return len(now) == 2 and not now & first

    with serving(handler, workers="process", max_workers=2) as server:
        eventually(both_are_new, "both serve")
        (tmp_path / "fails").touch()
        server.reload()
        eventually(lambda: "the old ones go on" in caplog.text, "one has failed")
        eventually(lambda: server.statistics()["processes"] == 3, "one is starting")
        eventually(lambda: server.statistics()["processes"] == 2, "it has replaced one")
        first |= {whoever_serves(server) for _ in range(50)}
        server.reload()
        eventually(both_are_new, "new ones have taken over")


def test_an_old_process_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process_crew, "ENDING_S", 0.1)

    def leaves_a_thread(connection: socket.socket) -> None:
        import os
        import threading
        import time

        threading.Thread(target=time.sleep, args=(1000,), daemon=False).start()
        connection.sendall(b"%d" % os.getpid())

    with serving(leaves_a_thread, workers="process", max_workers=1, grace=0.1) as server:
        old = whoever_serves(server)
        server.reload()
        eventually(lambda: f"process {old} of" in caplog.text, "it is found")
        eventually(lambda: server.statistics()["processes"] == 1, "it has gone")
        assert whoever_serves(server) != old
    assert server.statistics()["replaced"] == 0


def test_an_end_after_a_reload_is_as_quick(caplog: pytest.LogCaptureFixture) -> None:
    """Processes that have ended leave the listener as those that took over need it."""
    with serving(who, workers="process", max_workers=2) as server:
        before = {whoever_serves(server) for _ in range(50)}
        server.reload()
        eventually(lambda: whoever_serves(server) not in before, "a new one serves")
        eventually(lambda: server.statistics()["processes"] == 2, "the old ones have ended")
    assert not caplog.records, "none had to be killed"


def test_without_descriptors_a_process_is_replaced_later() -> None:
    program = """
import logging, os, resource, signal, socket, threading, time
from manyhands.server import Server
logging.basicConfig()
def who(connection):
    connection.sendall(b"%d" % os.getpid())
server = Server(("127.0.0.1", 0), who, workers="process", max_workers=2)
serving = threading.Thread(target=server.serve_forever)
def whoever_serves():
    with socket.create_connection(server.server_address) as connection:
        return int(connection.recv(100))
with server:
    serving.start()
    pids = set()
    while len(pids) < 2:
        pids.add(whoever_serves())
    with socket.socket() as later:  # keeps a number for a client
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (later.fileno() + 1, hard))
        lost = pids.pop()
        os.kill(lost, signal.SIGKILL)
        while server.statistics()["replaced"] == 0 and serving.is_alive():
            time.sleep(0.01)
        time.sleep(0.2)
        later.connect(server.server_address)
        print(int(later.recv(100)) in pids)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    while len(pids) < 2:
        pids.add(whoever_serves())
    print(lost not in pids)
    server.shutdown()
"""
    result = run_program(program)
    assert result.stdout.split() == ["True", "True"], result.stderr
    assert "cannot be started" in result.stderr and "next try" in result.stderr
