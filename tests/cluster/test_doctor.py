"""`manyhands doctor`: what it says of a broker, against what clients are told there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from manyhands._cluster.doctor import brokers_limits
from manyhands._cluster.private_broker import PrivateBroker
from stock_client import stock_connection

WATCHDOG = 30.0


def doctor(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "manyhands", "doctor", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=False)


@contextmanager
def a_queue(url: str, **declared: object) -> Iterator[str]:
    name = f"seen-{uuid4().hex[:8]}"
    with stock_connection(url) as connection:
        channel = connection.channel()
        channel.queue_declare(name, **declared)
        yield name
        connection.channel().queue_delete(name)


def test_a_queue_as_it_should_be(amqp_url: str) -> None:
    with a_queue(amqp_url, durable=True, auto_delete=False) as name:
        done = doctor(amqp_url, "--queues", f"{name},nowhere-{name}")
    assert (done.returncode, done.stderr) == (0, "")
    first, *_ = lines = done.stdout.splitlines()
    assert ": RabbitMQ " in first
    assert " on Erlang/OTP " in first
    assert f"ok    queue {name}: 0 messages wait, 0 consumers" in lines
    assert f"note  queue nowhere-{name}: there is none; the first program makes it" in lines
    assert amqp_url.split("@")[0] not in done.stdout


def test_what_celery_would_be_refused_is_shown_with_the_difference(amqp_url: str) -> None:
    with a_queue(amqp_url, durable=True, auto_delete=False, arguments={"x-max-length": 7}) as name:
        done = doctor(amqp_url, "--queues", name)
    assert done.returncode == 1
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("wrong"))
    assert "PRECONDITION_FAILED - inequivalent arg 'x-max-length'" in line
    assert "the value '7'" in line


def test_a_quorum_queue_is_named(amqp_url: str) -> None:
    quorum = {"x-queue-type": "quorum"}
    with a_queue(amqp_url, durable=True, auto_delete=False, arguments=quorum) as name:
        done = doctor(amqp_url, "--queues", name)
    assert done.returncode == 0
    assert "task_default_queue_type = 'quorum'" in done.stdout


def test_messages_that_nobody_takes_are_noted(amqp_url: str) -> None:
    import amqp

    with a_queue(amqp_url, durable=True, auto_delete=False) as name:
        with stock_connection(amqp_url, confirm_publish=True) as connection:
            connection.channel().basic_publish(amqp.Message("x"), routing_key=name)
        done = doctor(amqp_url, "--queues", name)
    assert f"ok    queue {name}: 1 messages wait, 0 consumers" in done.stdout
    assert f"note  queue {name}: nobody consumes from it" in done.stdout


def test_the_url_may_be_in_a_file(amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "broker").write_text(amqp_url + "\n")
    assert doctor("--broker-file", str(tmp_path / "broker"), "--queues", "none").returncode == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("amqp://127.0.0.1:1", "the broker at amqp://127.0.0.1:1/ does not serve us: "),
        ("http://example.org", "the URL of the broker cannot be used"),
    ],
)
def test_no_broker_is_one_line(url: str, why: str) -> None:
    done = doctor(url)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert why in line


@pytest.mark.usefixtures("installed_rabbitmq")
def test_without_a_url_it_is_the_broker_of_development(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with PrivateBroker.shared() as broker:
        done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert broker.url.split("@")[1].split("/")[0] in done.stdout


def test_a_wrong_password_is_named_and_not_shown(amqp_url: str) -> None:
    place = amqp_url.split("@")[1]
    done = doctor(f"amqp://manyhands:sesame@{place}")
    assert done.returncode == 1
    assert "ACCESS_REFUSED" in done.stderr
    assert "sesame" not in done.stderr


@pytest.mark.parametrize(
    ("timeout", "transient", "limit", "verdicts"),
    [
        (None, True, 7200.0, []),
        (1800, True, None, []),
        (1800, True, 60.0, ["ok"]),
        (1800, True, 1600.0, ["wrong"]),
        (1800, False, 7200.0, ["wrong", "note"]),
    ],
)
def test_limits(
    timeout: int | None, transient: bool, limit: float | None, verdicts: list[str]
) -> None:
    found = brokers_limits(timeout, transient, limit)
    assert [finding.verdict for finding in found] == verdicts
