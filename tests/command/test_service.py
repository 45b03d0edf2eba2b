"""`manyhands serve` as a service of systemd: what they tell each other, and the example's units."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventually import eventually
from manyhands._server.service_manager import ServiceManager
from rules import ROOT
from serve_command import COMMAND, Serving, serve, write
from serving import WATCHDOG

UNITS = ROOT / "examples" / "systemd"
WATCHDOG_USEC = "600000"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Make the socket that a service manager listens to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(WATCHDOG)
        made.bind(str(tmp_path / "notify"))
        yield made


def told(manager: socket.socket) -> dict[str, str]:
    """Return what is told next, apart from beats."""
    while (state := manager.recv(4096)) == b"WATCHDOG=1":
        pass
    return dict(line.split("=", 1) for line in state.decode().splitlines())


def beats(manager: socket.socket, seconds: float) -> int:
    """Count the beats of so many seconds."""
    end, count = time.monotonic() + seconds, 0
    try:
        while (left := end - time.monotonic()) > 0:
            manager.settimeout(left)
            count += manager.recv(4096) == b"WATCHDOG=1"
    except TimeoutError:
        pass
    finally:
        manager.settimeout(WATCHDOG)
    return count


@contextmanager
def activated(
    folder: Path, *options: str, names: str
) -> Iterator[tuple[Serving, list[socket.socket]]]:
    """Start the command as systemd does: with its sockets from number 3 on, named."""
    made = [socket.create_server(("127.0.0.1", 0)) for _ in names.split(":")]
    words = [*COMMAND, "handlers:answer", *options]
    # From high numbers down to 3 and so on: none is overwritten before it is copied.
    numbers = [each.fileno() for each in made]
    program = (
        "import os; os.environ['LISTEN_PID'] = str(os.getpid()); "
        f"high = [os.dup2(n, 100 + n) for n in {numbers}]; "
        "[os.dup2(n, 3 + at) for at, n in enumerate(high)]; "
        f"os.execv({words[0]!r}, {words!r})"
    )
    environment = {"LISTEN_FDS": str(len(made)), "LISTEN_FDNAMES": names, "NOTIFY_SOCKET": "notify"}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONDONTWRITEBYTECODE": "1"},
        pass_fds=numbers,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        serving = Serving(process)
        try:
            yield serving, made
        finally:
            process.kill()
            serving.stop_reading()
            for each in made:
                each.close()


def test_it_serves_the_socket_that_is_handed_over(tmp_path: Path, manager: socket.socket) -> None:
    write(tmp_path, "one")
    with activated(tmp_path, names="dinos") as (serving, (listening,)):
        state = told(manager)
        assert state["READY"] == "1" and "64 threads" in state["STATUS"]
        assert "MAINPID" not in state
        assert serving.address() == listening.getsockname()
        assert serving.ask()[0] == "one"
        serving.process.terminate()
        assert told(manager) == {"STOPPING": "1"}
        assert serving.process.wait(WATCHDOG) == 0


def test_sockets_have_names(tmp_path: Path, manager: socket.socket) -> None:
    write(tmp_path, "one")
    options = ("--bind", "fd:dinos", "--metrics", "fd:numbers")
    with activated(tmp_path, *options, names="numbers:dinos") as (serving, (numbers, dinos)):
        assert told(manager)["READY"] == "1"
        assert serving.address() == dinos.getsockname()
        with socket.create_connection(numbers.getsockname(), WATCHDOG) as reader:
            reader.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert reader.recv(100).startswith(b"HTTP/1.0 ")
    with activated(tmp_path, names="numbers:dinos") as (serving, _):
        assert serving.process.wait(WATCHDOG) == 1
        serving.stop_reading()
        assert "numbers (fd:3), dinos (fd:4)" in serving.said[0]
    with activated(tmp_path, "--bind", "fd:other", names="dinos") as (serving, _):
        assert serving.process.wait(WATCHDOG) == 1
        serving.stop_reading()
        assert "'fd:other': 0 sockets have that name" in serving.said[0]


def test_a_reload_is_told_from_its_beginning_to_its_end(
    tmp_path: Path, manager: socket.socket
) -> None:
    write(tmp_path, "one")
    options = ("handlers:answer", "--bind", "127.0.0.1:0", "--workers", "process:2")
    with serve(tmp_path, *options, NOTIFY_SOCKET=str(tmp_path / "notify")) as serving:
        assert told(manager)["STATUS"].endswith("with 2 processes")
        write(tmp_path, "two")
        before = time.monotonic_ns() // 1000
        serving.process.send_signal(signal.SIGHUP)
        state = told(manager)
        assert state["RELOADING"] == "1"
        assert before <= int(state["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert told(manager)["READY"] == "1"
        eventually(lambda: serving.versions() == {"two"}, "the old ones have left")
        write(tmp_path, "three", "def answer(: this is no Python")
        serving.process.send_signal(signal.SIGHUP)
        assert told(manager)["RELOADING"] == "1"
        state = told(manager)
        assert state["READY"] == "1" and "the old ones go on" in state["STATUS"]
        assert serving.versions() == {"two"}


def test_a_reload_that_hangs_is_given_up_and_another_can_follow(
    tmp_path: Path, manager: socket.socket
) -> None:
    write(tmp_path, "one")
    options = ("handlers:answer", "--bind", "127.0.0.1:0", "--workers", "process:1")
    more = ("--start-timeout", "2")
    with serve(tmp_path, *options, *more, NOTIFY_SOCKET=str(tmp_path / "notify")) as serving:
        assert told(manager)["READY"] == "1"
        write(tmp_path, "two", "import time\ntime.sleep(1000)\nanswer = None")
        serving.process.send_signal(signal.SIGHUP)
        assert told(manager)["RELOADING"] == "1"
        assert "was not ready within 2 s" in told(manager)["STATUS"]
        # It has been written by then, and is read by another thread.
        eventually(lambda: any("was not ready within 2 s" in line for line in serving.said), "said")
        assert serving.versions() == {"one"}
        write(tmp_path, "three")
        serving.process.send_signal(signal.SIGHUP)
        assert told(manager)["RELOADING"] == "1"
        assert told(manager)["READY"] == "1"
        eventually(lambda: serving.versions() == {"three"}, "the old one has left")
        assert serving.end() == 0


def test_threads_say_that_they_cannot_be_reloaded(tmp_path: Path, manager: socket.socket) -> None:
    write(tmp_path, "one")
    notify = str(tmp_path / "notify")
    with serve(
        tmp_path, "handlers:answer", "--bind", "127.0.0.1:0", NOTIFY_SOCKET=notify
    ) as serving:
        assert told(manager)["READY"] == "1"
        serving.process.send_signal(signal.SIGHUP)
        assert told(manager)["RELOADING"] == "1"
        state = told(manager)
        assert state["READY"] == "1" and "cannot be reloaded" in state["STATUS"]
        eventually(
            lambda: any("restart it, or have" in line for line in serving.said), "it is said"
        )


WEDGED = """
import ctypes, os
def answer(connection):
    word = connection.recv(100)
    connection.sendall(b"one %d\\n" % os.getpid())
    if word == b"wedge":
        ctypes.PyDLL(None).sleep(1000)  # the interpreter stays ours
    if word == b"compute":
        for _ in range(8):
            pow(3, 4_000_000)  # as long as one lasts, the interpreter is not released
"""


@pytest.mark.parametrize("workers", ["thread:4", "process:1"])
def test_beats_go_on_while_handlers_compute_and_end_when_it_is_wedged(
    tmp_path: Path, manager: socket.socket, workers: str
) -> None:
    write(tmp_path, "one", WEDGED)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": WATCHDOG_USEC}
    options = ("handlers:answer", "--bind", "127.0.0.1:0", "--workers", workers, "--grace", "0")
    with serve(tmp_path, *options, pass_fds=(), **environment) as serving:
        assert told(manager)["READY"] == "1"
        assert beats(manager, 2.0) >= 4, "idle"

        def say(word: bytes) -> None:
            with socket.create_connection(serving.address(), WATCHDOG) as connection:
                connection.sendall(word)
                assert connection.recv(100)

        say(b"compute")
        assert beats(manager, 2.0) >= 4, "busy"
        eventually(lambda: beats(manager, 0.5) > 0, "still")
        say(b"wedge")
        eventually(lambda: beats(manager, 2.0) == 0, "wedged", WATCHDOG)
        if workers == "process:1":
            assert serving.end() == 0, "its parent is not, and ends it"


def test_beats_are_not_for_another_process(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000"}
    assert ServiceManager(environment).watchdog_s == 1.0
    assert ServiceManager({**environment, "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0
    assert ServiceManager({**environment, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert ServiceManager({"WATCHDOG_USEC": "1000000"}).watchdog_s is None
    with pytest.raises(ValueError, match="WATCHDOG_USEC='soon' is no number"):
        ServiceManager({**environment, "WATCHDOG_USEC": "soon"})


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_the_units_are_right(tmp_path: Path) -> None:
    for unit in UNITS.glob("dinos.*"):
        # What the example is installed as is not there.
        text = unit.read_text().replace("/srv/dinos/venv/bin/manyhands", sys.executable)
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.glob("dinos.*"))
    assert len(units) == 2
    words = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WATCHDOG, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(
    not shutil.which("systemd-socket-activate"), reason="there is no systemd-socket-activate here"
)
def test_systemd_hands_over_its_socket(tmp_path: Path) -> None:
    write(tmp_path, "one")
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    words = ["systemd-socket-activate", "--fdname=dinos", f"--listen={host}:{port}", *COMMAND]
    with subprocess.Popen(
        [*words, "handlers:answer", "--bind", "fd:dinos"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        serving = Serving(process)
        try:
            eventually(lambda: any("Listening on" in line for line in serving.said), "it listens")
            # The first connection starts it, and waits for it.
            with socket.create_connection((host, port), WATCHDOG) as connection:
                connection.sendall(b"x")
                assert connection.recv(100).startswith(b"one ")
            assert serving.address() == (host, port)
            assert serving.end() == 0
        finally:
            process.kill()
            serving.stop_reading()
