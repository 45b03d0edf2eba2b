"""A RabbitMQ of our own: found, shared, started again, and gone with its last user."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from eventually import eventually
from manyhands._cluster import rabbitmq_node
from manyhands._cluster.private_broker import PrivateBroker
from manyhands._cluster.rabbitmq_node import RabbitMQNode

pytestmark = pytest.mark.usefixtures("installed_rabbitmq")

WATCHDOG = 50.0
PROGRAM = """
import sys
from pathlib import Path
from manyhands._cluster.private_broker import PrivateBroker
broker = PrivateBroker.shared(Path(sys.argv[1]))
print(broker.url, broker.ask('os:getenv("RABBITMQ_MNESIA_BASE").'), flush=True)
sys.stdin.read()
"""


def greeting(url: str) -> bytes:
    """Return how a broker answers the first bytes of AMQP 0-9-1; nothing if none is there."""
    place = urlsplit(url)
    try:
        with socket.create_connection((place.hostname, place.port), WATCHDOG) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            return client.recv(7)
    except ConnectionError:
        return b""


@contextmanager
def user(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """Run a program that shares a broker; killed at the end. Yields where broker and data are."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url, data = process.stdout.readline().split()
            yield process, url, Path(data.strip('"'))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def broker(installed_rabbitmq: None) -> Iterator[PrivateBroker]:
    with PrivateBroker() as broker:
        yield broker


def test_clients_can_connect_at_once(broker: PrivateBroker) -> None:
    assert greeting(broker.url)[0] == 1  # a frame with a method


def test_a_restart_keeps_url_and_data(broker: PrivateBroker) -> None:
    url = broker.url
    host = broker.add_vhost("kept.1")
    assert host == url.replace("%2f", "kept.1")
    broker.stop(kill=True)
    assert greeting(url) == b""
    with pytest.raises(RuntimeError, match="stopped: start it first"):
        broker.ask("1.")
    broker.start()
    assert greeting(broker.url)
    assert broker.url == url
    assert '<<"kept.1">>' in broker.ask("rabbit_vhost:list().")


def test_it_listens_on_the_loopback_only(broker: PrivateBroker) -> None:
    pid = int(broker.ask("os:getpid().").strip('"'))
    inodes = {
        match[1]
        for path in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.match(r"socket:\[(\d+)\]", str(path.readlink())))
    }
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}
    assert listening == {"0100007F"}


def test_nothing_is_left_to_start_a_port_mapper(broker: PrivateBroker) -> None:
    # RabbitMQ would look after a minute, which no test waits for.
    assert broker.ask("whereis(rabbit_epmd_monitor).") == "undefined"
    broker.stop()
    broker.start()
    assert broker.ask("whereis(rabbit_epmd_monitor).") == "undefined"


def test_what_it_refuses_is_an_error(broker: PrivateBroker) -> None:
    with pytest.raises(RuntimeError, match="undef"):
        broker.ask("no:such_function().")
    with pytest.raises(ValueError, match="letters, digits"):
        broker.add_vhost('">>')


def test_it_goes_with_its_last_user_however_that_ends(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = Path(f"{tmp_path_factory.getbasetemp()}/b")
    with user(folder) as (first, url, data):
        with PrivateBroker.shared(folder) as other:
            third = PrivateBroker.running(folder)
            assert third is not None
            assert other.url == third.url == url
            third.close()  # without waiting for the others
            assert url.split("@")[0] not in Path(f"/proc/{first.pid}/cmdline").read_text()
            first.kill()
            first.wait(WATCHDOG)
            assert greeting(other.url)
        # Its last user has waited for its end.
        assert greeting(url) == b""
        assert not data.exists()
        assert not (folder / "broker.socket").exists()
    assert PrivateBroker.running(folder) is None
    assert PrivateBroker.running(folder / "nothing") is None


def test_it_goes_with_a_user_that_is_killed(tmp_path: Path) -> None:
    with user(tmp_path / "b") as (only, url, data):
        assert (data.stat().st_mode & 0o777, greeting(url)[0]) == (0o700, 1)
        only.kill()
        eventually(lambda: not greeting(url) and not data.exists(), "broker and data are gone")


def test_a_folder_that_others_may_use_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(PermissionError, match="only this user"):
        PrivateBroker.shared(tmp_path)


def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_node, "CONFIGURATION", "no_such_setting = {password}")
    node = RabbitMQNode()
    try:
        with pytest.raises(RuntimeError, match="no_such_setting"):
            node.start()
    finally:
        node.remove()


def test_where_it_is_not_installed_one_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_node, "SCRIPTS", ())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install"):
        RabbitMQNode()
