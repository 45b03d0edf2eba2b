"""Our worker as those see it who control a fleet: `celery inspect` and `celery control`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import TaskRevokedError

import manyhands as mh
from amqp_proxy import AmqpProxy
from controlled_worker import ask, named_worker
from eventually import begun, eventually, let_go
from stock_celery import stock_app, stock_worker
from task_worker import WATCHDOG

pytestmark = pytest.mark.once("what is asked and told is bytes")


@pytest.fixture
def queue() -> str:
    return f"tasks-{uuid4().hex[:8]}"


@pytest.fixture
def app(amqp_url: str, queue: str) -> Iterator[Any]:
    with stock_app(amqp_url, queue) as app:
        yield app


def celery(url: str, *words: str) -> str:
    """Run Celery's command; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-b", url, *words],
        env={**os.environ, "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


Holds = Callable[[Any, str, int], bool]
COMMANDS: dict[str, Holds] = {
    "ping": lambda value, _queue, _pid: value == {"ok": "pong"},
    "stats": lambda value, _queue, pid: (
        (value["pid"], value["pool"]["max-concurrency"]) == (pid, 2)
    ),
    "active": lambda value, _queue, _pid: value == [],
    "reserved": lambda value, _queue, _pid: value == [],
    "scheduled": lambda value, _queue, _pid: value == [],
    "revoked": lambda value, _queue, _pid: value == [],
    "registered": lambda value, _queue, _pid: "fleet_tasks.add" in value,
    "active_queues": lambda value, queue, _pid: [each["name"] for each in value] == [queue],
    "conf": lambda value, queue, _pid: value["task_default_queue"] == queue,
    "report": lambda value, _queue, _pid: "manyhands" in value["ok"],
    "clock": lambda value, _queue, _pid: value["clock"] > 0,
    "fly": lambda value, _queue, _pid: value == {"error": "KeyError('fly')"},
    "revoke": lambda value, _queue, _pid: "task_id" in value["error"],
}


def test_the_commands_of_celery_are_answered(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    with named_worker(tmp_path, amqp_url, queue) as (worker, name):
        for command, holds in COMMANDS.items():
            value = ask(app, name, command)
            assert holds(value, queue, worker.process.pid), (command, value)
        for command in ("ping", "stats", "registered"):
            # It waits that long even if all have answered.
            said = json.loads(celery(amqp_url, "inspect", command, "-d", name, "-t", "2", "-j"))
            assert COMMANDS[command](said[name], queue, worker.process.pid), (command, said)


def test_what_runs_and_waits_is_shown(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with named_worker(tmp_path, amqp_url, queue, kind="process:1") as (_, name):
        later = app.send_task("fleet_tasks.add", (1, 2), countdown=3600)

        def scheduled() -> bool:
            return [each["request"]["id"] for each in ask(app, name, "scheduled")] == [later.id]

        eventually(scheduled, "one is scheduled")
        held = app.send_task("fleet_tasks.hold", (str(tmp_path), "held"), argsrepr="(a folder)")
        begun(tmp_path, "held")
        (active,) = ask(app, name, "active")
        assert (active["id"], active["name"]) == (held.id, "fleet_tasks.hold")
        assert active["args"] == [str(tmp_path), "held"]
        assert active["delivery_info"]["routing_key"] == queue
        (safe,) = ask(app, name, "active", safe=True)
        assert safe["args"] == "(a folder)"
        places = ask(app, name, "query_task", ids=[held.id, later.id, "nobody"])
        assert {key: value[0] for key, value in places.items()} == {
            held.id: "active",
            later.id: "scheduled",
        }
        let_go(tmp_path)
        assert held.get(timeout=WATCHDOG) == "held"
        assert ask(app, name, "stats")["total"] == {"fleet_tasks.hold": 1}


def test_only_those_who_are_meant_answer(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    (tmp_path / "other").mkdir()
    with (
        named_worker(tmp_path, amqp_url, queue, kind="thread:1") as (_, one),
        named_worker(tmp_path / "other", amqp_url, queue, kind="thread:1") as (_, other),
    ):

        def who(**whom: Any) -> set[str]:
            answers = app.control.broadcast("ping", reply=True, timeout=3, **whom)
            return {name for answer in answers for name in answer}

        assert who() == {one, other}
        assert who(destination=[other]) == {other}
        assert who(pattern=f"{one[:10]}@*", matcher="glob") == {one}


def test_nothing_secret_is_told(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with named_worker(tmp_path, amqp_url, queue, kind="thread:1") as (_, name):
        secret = app.connection_for_write().password
        assert f":{secret}@" in amqp_url
        for command in ("conf", "stats", "report", "active_queues"):
            assert f":{secret}@" not in json.dumps(ask(app, name, command))


def test_celery_revokes_what_runs(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with named_worker(tmp_path, amqp_url, queue, kind="process:1") as (_, name):
        waiting = app.send_task("fleet_tasks.add", (1, 1), countdown=3600)
        held = app.send_task("fleet_tasks.hold", (str(tmp_path), "held"))
        begun(tmp_path, "held")
        celery(amqp_url, "control", "-d", name, "-t", "2", "revoke", waiting.id)
        celery(amqp_url, "control", "-d", name, "-t", "2", "terminate", "SIGTERM", held.id)
        for result in (held, waiting):
            with pytest.raises(TaskRevokedError):
                result.get(timeout=WATCHDOG)
        assert set(ask(app, name, "revoked")) == {held.id, waiting.id}
        assert app.send_task("fleet_tasks.add", (2, 3)).get(timeout=WATCHDOG) == 5


@pytest.fixture(scope="module")
def connected_before(amqp_url: str) -> None:
    """Make a first connection: it starts a thread that the next ones use, too."""
    with mh.ClusterExecutor(amqp_url):
        pass


@pytest.mark.parametrize("kind", ["process:1", "coroutine:1"])
def test_a_cancelled_future_ends_its_task(
    tmp_path: Path, amqp_url: str, queue: str, kind: str, connected_before: None
) -> None:
    with (
        named_worker(tmp_path, amqp_url, queue, kind=kind),
        mh.ClusterExecutor(amqp_url, queue) as executor,
    ):
        if kind == "process:1":
            future = executor.submit("fleet_tasks.hold", str(tmp_path), "held")
            begun(tmp_path, "held")
        else:
            future = executor.submit("fleet_tasks.wait_in", str(tmp_path))
            begun(tmp_path, "coroutine")
        assert future.cancel()
        # With one slot, the next one runs only if that has ended.
        assert executor.submit("fleet_tasks.add", 2, 3).result(WATCHDOG) == 5
        if kind == "coroutine:1":
            assert (tmp_path / "left").exists(), "it was cancelled"


def test_revoked_tasks_are_known_to_those_who_start_later(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    # A worker asks those who are there when it starts, by `hello`: a stock one hears of ours.
    with named_worker(tmp_path, amqp_url, queue, kind="thread:1") as (_, name):
        app.control.revoke(["never"], destination=[name])
        eventually(lambda: ask(app, name, "revoked") == ["never"], "it is known")
        with stock_worker(tmp_path, amqp_url, f"{queue}-stock", "--pool=solo") as stock:
            assert ask(app, stock.name, "revoked") == ["never"]
        hello = ask(app, name, "hello", from_node="other@host", revoked={"old": [1.5, "old"]})
        assert (hello["revoked"], hello["clock"] > 0) == (["never"], True)
        ask(app, name, "hello", from_node="other@host", revoked=["new"])
        assert set(ask(app, name, "revoked")) == {"never", "old", "new"}


def test_remote_control_ends_it_warm(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with named_worker(tmp_path, amqp_url, queue) as (worker, name):
        held = app.send_task("fleet_tasks.hold", (str(tmp_path), "held"))
        begun(tmp_path, "held")
        app.control.shutdown(destination=[name])
        eventually(lambda: any("remote control" in line for line in worker.said), "it ends")
        let_go(tmp_path)
        assert held.get(timeout=WATCHDOG) == "held"
        assert worker.ended() == 0


def test_it_is_heard_again_after_a_cut(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with AmqpProxy(amqp_url) as proxy, named_worker(tmp_path, proxy.url, queue) as (_, name):
        app.control.revoke(["never"], destination=[name])
        eventually(lambda: ask(app, name, "revoked") == ["never"], "it is known")
        proxy.cut()
        # The queue is its connection's: it is gone with that, and comes again with the next.
        request = {"reply": True, "timeout": 1, "destination": [name]}
        eventually(lambda: app.control.broadcast("ping", **request), "it answers", WATCHDOG)
        assert ask(app, name, "revoked") == ["never"]


def test_damaged_requests_change_nothing(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    with named_worker(tmp_path, amqp_url, queue, kind="thread:1") as (_, name):
        with app.connection_for_write() as connection, connection.channel() as channel:
            for body in (b"", b"{", b"[]", b'{"method": 3}', b'{"method": "revoke"}', b"\xff\xfe"):
                for kind in ("application/json", "application/x-python-serialize", ""):
                    message = channel.prepare_message(body, content_type=kind)
                    channel.basic_publish(message, exchange="celery.pidbox", routing_key="")
        assert ask(app, name, "ping") == {"ok": "pong"}
        assert ask(app, name, "revoked") == []
