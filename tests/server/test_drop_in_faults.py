"""What goes wrong around a server of the drop-in for `socketserver`, and does not bring it down."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import manyhands.server as socketserver
from children import thread
from eventually import eventually
from served import LOCALHOST, NEVER_S, WAIT_S, Echo, answer, served, wait_until_it_polls
from serving import client as connected

KINDS = ("ThreadingTCPServer", "ForkingTCPServer")


class Rude(socketserver.StreamRequestHandler):
    """Does what it is told, bad as it may be."""

    def handle(self) -> None:
        word = self.rfile.readline().strip()
        if word == b"raise":
            raise ValueError("of the handler")
        if word == b"close":
            self.request.close()
        elif word == b"detach":
            os.close(self.request.detach())
        elif word == b"flood":
            self.wfile.write(bytes(10_000_000))
        else:
            self.wfile.write(word + b"\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", [b"raise\n", b"close\n", b"detach\n"])
def test_what_a_handler_does_is_its_own_affair(
    kind: str, word: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with served(getattr(socketserver, kind)(LOCALHOST, Rude)) as server:
        for _ in range(3):
            assert answer(server, word) == b""
            assert answer(server) == b"hello\n"
    assert capfd.readouterr().err.count("ValueError: of the handler") == 3 * (word == b"raise\n")


# In a process of its own: a child that the server forks here would have the client's end, too.
RESETTING = """
import socket, struct, sys
for word in (b"", b"flood\\n"):
    for _ in range(5):
        client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        client.sendall(word)
        if word:
            client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_reset(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with served(getattr(socketserver, kind)(LOCALHOST, Rude)) as server:
        port = str(server.server_address[1])
        subprocess.run([sys.executable, "-c", RESETTING, port], check=True, timeout=50)
        assert answer(server) == b"hello\n"
    assert capfd.readouterr().err.count("ConnectionResetError") == 10


@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_say_nothing_hold_up_nobody(kind: str) -> None:
    with served(getattr(socketserver, kind)(LOCALHOST, Rude)) as server:
        silent = [connected(server) for _ in range(20)]
        assert answer(server) == b"hello\n"
        for client in silent:
            client.sendall(b"late\n")
            assert client.recv(10) == b"late\n"
            client.close()


class Flaky(socketserver.TCPServer):
    """Fails to accept as often, and as badly, as it is told."""

    def __init__(self, number: int, times: int) -> None:
        super().__init__(LOCALHOST, Echo)
        self.error, self.left, self.tried = OSError(number, os.strerror(number)), times, 0

    def get_request(self) -> Any:
        self.tried += 1
        if self.left:
            self.left -= 1
            raise self.error
        return super().get_request()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "manyhands.server"]


def test_a_connection_that_was_given_up_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    with served(Flaky(errno.ECONNABORTED, 3)) as server:
        assert answer(server) == b"hello\n"
        assert server.tried == 4
    assert warnings(caplog) == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_shortage_is_told_of_once_and_waited_out(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "manyhands.server")
    with served(Flaky(number, 4)) as server:
        assert answer(server) == b"hello\n"
        assert server.tried == 5
    (told,) = warnings(caplog)
    assert os.strerror(number) in told
    assert f"127.0.0.1', {server.server_address[1]}" in told


def test_a_pause_grows_and_ends_with_a_request() -> None:
    """It is not waited out here: what ends gives back what was short."""
    server = Flaky(errno.EMFILE, 0)
    shortage = server_parts(server).shortage
    for _ in range(20):
        shortage.note(server.error, server.server_address)
    # Out of 10 ms, 20 ms and so on, but no more than a second.
    assert 0.5 < shortage.left() <= 1.0
    server_parts(server).request_ended()
    assert shortage.left() == 0.0
    server.server_close()


def server_parts(server: object) -> Any:
    from manyhands._server.serving import serving_of

    return serving_of(server)


def test_a_server_that_pauses_is_shut_down_at_once() -> None:
    server = Flaky(errno.EMFILE, 1_000_000)
    with thread(server.serve_forever, NEVER_S) as loop, connected(server):
        eventually(lambda: server.tried > 8, "it has tried some times")
        wait_until_it_polls(loop)
        server.shutdown()
    server.server_close()


def test_single_requests_pause_too() -> None:
    with Flaky(errno.EMFILE, 3) as server, connected(server) as client:
        for _ in range(4):
            server.timeout = 5
            with thread(client.shutdown, socket.SHUT_WR):
                server.handle_request()
        assert server.tried == 4


SERVER = """
import logging, resource, sys, threading
import manyhands.server as socketserver

logging.basicConfig()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)

server = socketserver.{kind}(sys.argv[1] if "Unix" in "{kind}" else ("127.0.0.1", 0), Handler)
print(server.server_address if "Unix" in "{kind}" else server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever).start()
sys.stdin.read()
server.shutdown()
server.server_close()
"""


@contextmanager
def server_program(kind: str, path: Path) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Start a server in a process of its own, which may open 64 files; yield it and its address."""
    with (
        (path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", SERVER.format(kind=kind), str(path / "socket")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as program,
    ):
        try:
            assert program.stdout is not None
            line = program.stdout.readline().strip()
            yield program, line if "Unix" in kind else ("127.0.0.1", int(line))
            program.communicate(timeout=WAIT_S)
            assert program.returncode == 0
        finally:
            program.kill()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_five_hundred_clients_of_a_server_with_64_descriptors(
    tmp_path: Path, many_files: None
) -> None:
    with server_program("ThreadingTCPServer", tmp_path) as (program, address):
        clients = [socket.create_connection(address, timeout=WAIT_S) for _ in range(500)]
        for client in clients:
            client.sendall(b"hello\n")
        assert clients[0].recv(10) == b"hello\n"
        eventually(lambda: "Too many open" in (tmp_path / "log").read_text(), "it is told of")
        # As many as it may have are accepted and held: it must not try again without a pause.
        used = cpu_seconds(program.pid)
        threading.Event().wait(1.0)
        assert cpu_seconds(program.pid) - used < 0.5
        for client in clients[1:]:
            clients[0].close()
            clients[0] = client
            assert client.recv(10) == b"hello\n"
        clients[0].close()
    assert (tmp_path / "log").read_text().count("cannot accept connections") == 1


def resident(pid: int) -> int:
    """Return how many bytes of memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.storm, pytest.mark.timeout(3000)])]
)
def test_short_connections_leave_nothing(count: int, tmp_path: Path) -> None:
    def connect(times: int) -> None:
        for _ in range(times):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(address)
                client.sendall(b"hello\n")
                assert client.recv(10) == b"hello\n"

    with server_program("ThreadingUnixStreamServer", tmp_path) as (program, address):
        connect(2000)
        memory = resident(program.pid)
        connect(count)
        assert resident(program.pid) - memory < 1 << 20
        open_files = Path(f"/proc/{program.pid}/fd")
        eventually(lambda: len(list(open_files.iterdir())) <= 6, "no connection stays open")


def test_a_port_that_is_taken_by_this_process() -> None:
    with socketserver.TCPServer(LOCALHOST, Echo) as first:
        port = first.server_address[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: this process") as caught:
            socketserver.TCPServer(("127.0.0.1", port), Echo)
    assert caught.value.errno == errno.EADDRINUSE
    assert (caught.value.strerror or "").startswith("Address already in use: ")


def test_a_port_that_is_taken_by_another_process(tmp_path: Path) -> None:
    with server_program("ThreadingTCPServer", tmp_path) as (program, address):
        with pytest.raises(OSError, match=rf": process {program.pid} \(python.*\) has it"):
            socketserver.TCPServer(address, Echo)


def test_a_datagram_port_that_is_taken() -> None:
    with socketserver.UDPServer(LOCALHOST, Echo) as first:
        with pytest.raises(OSError, match="this process"):
            socketserver.UDPServer(first.server_address, Echo)


def test_a_port_of_connections_that_are_remembered() -> None:
    class Ends(socketserver.BaseRequestHandler):
        pass

    # The side that closes first remembers the connection.
    with socketserver.TCPServer(LOCALHOST, Ends) as server:
        port = server.server_address[1]
        with connected(server) as client:
            server.handle_request()
            assert client.recv(10) == b""
    with pytest.raises(OSError, match="allow_reuse_address"):
        socketserver.TCPServer(("127.0.0.1", port), Echo)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match=r"192.0.2.1:80.*: no network interface"):
        socketserver.TCPServer(("192.0.2.1", 8080), Echo)


def test_a_privileged_port() -> None:
    script = """
import os, manyhands.server as socketserver
os.setgid(65534)
os.setuid(65534)
socketserver.TCPServer(("127.0.0.1", 80), None)
"""
    if os.getuid() != 0:
        script = script.replace("os.setgid(65534)\nos.setuid(65534)\n", "")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50
    )
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip()
    assert f"PermissionError: [Errno 13] Permission denied: 127.0.0.1:80: ports below {lowest}" in (
        done.stderr
    )


UNIX = ("UnixStreamServer", "UnixDatagramServer")


@pytest.mark.parametrize("kind", UNIX)
def test_a_socket_file_that_a_server_left_behind(kind: str, tmp_path: Path) -> None:
    made = getattr(socketserver, kind)
    path = str(tmp_path / "socket")
    made(path, Echo).server_close()
    assert Path(path).is_socket()
    with made(path, Echo) as server:
        assert server.server_address == path
        with pytest.raises(OSError, match=re.escape(f"{path}: this process")):
            made(path, Echo)
        assert Path(path).is_socket()


def test_a_socket_that_does_not_listen_yet_is_not_taken(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        with pytest.raises(OSError, match="this process"):
            socketserver.UnixStreamServer(path, Echo)
        other.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(OSError, match="not a socket"):
        socketserver.UnixStreamServer(str(path), Echo)
    assert path.read_text() == "precious"


def test_of_servers_that_start_at_once_one_gets_the_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    socketserver.UnixStreamServer(path, Echo).server_close()
    made: list[socketserver.UnixStreamServer] = []
    failed: list[OSError] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait(30)
        try:
            made.append(socketserver.UnixStreamServer(path, Echo))
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT_S)
    (server,) = made
    assert {error.errno for error in failed} == {errno.EADDRINUSE}
    with server, connected(server):
        pass


def test_a_name_that_is_no_path() -> None:
    name = f"\0manyhands-{os.getpid()}"
    with socketserver.UnixStreamServer(name, Echo):
        with pytest.raises(OSError, match="Address already in use"):
            socketserver.UnixStreamServer(name, Echo)
