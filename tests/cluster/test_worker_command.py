"""What `manyhands worker` tells: systemd, who asks over HTTP, and its user."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from uuid import uuid4

import pytest

from amqp_proxy import AmqpProxy
from eventually import eventually
from task_worker import WATCHDOG, task_worker

pytestmark = pytest.mark.once("Rust and the broker decide")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def page(port: int, name: str) -> tuple[int, str]:
    """Return the status and the text of a page of its metrics."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=WATCHDOG) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_is_healthy_while_it_consumes(amqp_url: str, tmp_path: Path) -> None:
    port, queue = free_port(), f"tasks-{uuid4().hex[:8]}"
    words = ("--workers", "thread:1", "--metrics", str(port))
    with AmqpProxy(amqp_url) as proxy, task_worker(tmp_path, proxy.url, queue, *words):
        assert page(port, "healthz") == (200, "serving\n")
        assert "manyhands_worker_consuming 1" in page(port, "metrics")[1]
        assert json.loads(page(port, "statistics")[1])["statistics"]["running"] == 0
        proxy.refuse()
        proxy.cut()
        eventually(
            lambda: page(port, "healthz") == (503, "not consuming\n"), "it says so", WATCHDOG
        )
        proxy.accept()
        eventually(lambda: page(port, "healthz")[0] == 200, "it consumes again", WATCHDOG)


def test_systemd_is_told_when_it_consumes_and_when_it_ends(amqp_url: str, tmp_path: Path) -> None:
    queue = f"tasks-{uuid4().hex[:8]}"
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(WATCHDOG)
        more = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"}
        with task_worker(tmp_path, amqp_url, queue, "--workers", "thread:1", **more) as worker:
            said = manager.recv(1000).decode()
            while "READY" not in said:
                said = manager.recv(1000).decode()
            assert said == f"READY=1\nSTATUS=consumes from {queue}"
            assert manager.recv(1000) == b"WATCHDOG=1"
            worker.process.send_signal(signal.SIGTERM)
            while manager.recv(1000) != b"STOPPING=1":
                pass
            assert worker.ended() == 0


def test_the_url_may_be_in_a_file(amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{amqp_url}\n")
    words = ("--workers", "thread:1", "--broker-file", str(tmp_path / "url"))
    with task_worker(
        tmp_path, "amqp://nobody@127.0.0.1:1", f"tasks-{uuid4().hex[:8]}", *words
    ) as worker:
        assert worker.end() == 0
