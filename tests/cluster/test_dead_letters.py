"""`manyhands dead`: letters that a real worker has made are shown, sent back and dropped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import amqp
import pytest

from eventually import eventually
from stock_client import stock_connection

WATCHDOG = 30.0
SHOP = """
import manyhands as mh

@mh.task
def price(what: str) -> float:
    return 2.5
"""
POISON = {"task": "shop.price", "id": "poison-1", "argsrepr": "('apple',)", "lang": "py"}


def run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "manyhands", "dead", *words, "--broker", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=False)


def inspected(url: str, queue: str) -> list[dict[str, Any]]:
    done = run(url, "inspect", queue, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def depth(url: str, queue: str) -> int:
    with stock_connection(url) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).message_count)


@pytest.fixture
def dead(amqp_url: str, tmp_path: Path) -> str:
    """Return a queue that has had two messages which no worker can read."""
    queue = f"dead-{uuid4().hex[:8]}"
    with stock_connection(amqp_url, confirm_publish=True) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True, auto_delete=False)
        for number in "12":
            message = amqp.Message(
                "no JSON",
                content_type="application/json",
                content_encoding="utf-8",
                application_headers={**POISON, "id": f"poison-{number}"},
            )
            channel.basic_publish(message, routing_key=queue)
    (tmp_path / "shop.py").write_text(SHOP)
    words = ["worker", "shop", "--queues", queue, "--workers", "thread:1", "--broker", amqp_url]
    with subprocess.Popen(
        [sys.executable, "-m", "manyhands", *words], cwd=tmp_path, stderr=subprocess.PIPE
    ) as worker:
        try:
            eventually(lambda: len(inspected(amqp_url, queue)) == 2, "both are dead letters")
        finally:
            worker.kill()
    return queue


def test_letters_are_shown_and_stay(amqp_url: str, dead: str) -> None:
    for _ in range(2):
        shown = inspected(amqp_url, dead)
        assert [each["id"] for each in shown] == ["poison-1", "poison-2"]
        assert shown[0] == shown[0] | {
            "task": "shop.price",
            "args": "('apple',)",
            "from": dead,
            "bytes": len("no JSON"),
        }
        assert shown[0]["because"]
    assert "poison-2  shop.price ('apple',)" in run(amqp_url, "inspect", dead).stdout


def test_letters_are_sent_back_and_dropped_by_id(amqp_url: str, dead: str) -> None:
    replayed = run(amqp_url, "replay", dead, "--ids", "poison-2")
    assert (replayed.returncode, replayed.stderr) == (0, "")
    assert [each["id"] for each in inspected(amqp_url, dead)] == ["poison-1"]
    with stock_connection(amqp_url) as connection:
        message = connection.channel().basic_get(dead, no_ack=True)
    assert message.body == "no JSON"
    assert message.properties["content_type"] == "application/json"
    assert message.headers == {**POISON, "id": "poison-2"}
    assert run(amqp_url, "drop", dead, "--ids", "poison-1").returncode == 0
    assert inspected(amqp_url, dead) == []


def test_what_cannot_be_sent_back_stays(amqp_url: str, dead: str) -> None:
    done = run(amqp_url, "replay", dead, "--all", "--to", "nowhere")
    assert done.returncode == 1
    assert done.stderr.count("that one stays: there is no queue nowhere") == 2
    assert depth(amqp_url, f"{dead}.dead") == 2


def test_it_must_be_said_which(amqp_url: str) -> None:
    done = run(amqp_url, "drop", "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--ids ID,… or --all" in done.stderr


def test_a_queue_without_dead_letters(amqp_url: str) -> None:
    done = run(amqp_url, "inspect", f"none-{uuid4().hex}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
