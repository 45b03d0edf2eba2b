"""What our worker tells unasked, as Celery's receiver and Flower hear it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from controlled_worker import ask, named_worker
from eventually import begun, eventually
from stock_celery import stock_app
from task_worker import WATCHDOG

pytestmark = pytest.mark.once("what is told is bytes")


@pytest.fixture
def queue() -> str:
    return f"tasks-{uuid4().hex[:8]}"


@pytest.fixture
def app(amqp_url: str, queue: str) -> Iterator[Any]:
    with stock_app(amqp_url, queue) as app:
        yield app


@contextmanager
def heard(app: Any) -> Iterator[list[dict[str, Any]]]:
    """Return a list of all events that come."""
    events: list[dict[str, Any]] = []
    is_over = threading.Event()
    listens = threading.Event()

    def listen() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": events.append})
            with receiver.consumer_context() as (own, _, _):
                listens.set()
                while not is_over.is_set():
                    try:
                        own.drain_events(timeout=0.1)
                    except TimeoutError:
                        continue

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        assert listens.wait(WATCHDOG)
        yield events
    finally:
        is_over.set()
        thread.join(WATCHDOG)


def told(events: list[dict[str, Any]], task: Any) -> list[str]:
    """Return what is told of one task."""
    return [each["type"] for each in events if each.get("uuid") == task.id]


def wait_for(events: list[dict[str, Any]], task: Any, *expected: str) -> None:
    """Wait until just this is told of a task."""
    eventually(lambda: len(told(events, task)) >= len(expected), f"{expected}", WATCHDOG)
    assert told(events, task) == [*expected]


def test_tasks_are_told_from_the_beginning(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    with heard(app) as events:
        with named_worker(tmp_path, amqp_url, queue, "-E", kind="process:1") as (worker, name):
            added = app.send_task("fleet_tasks.add", (1, 2), argsrepr="(1, 2)")
            failed = app.send_task("fleet_tasks.fail", ("no",))
            again = app.send_task("fleet_tasks.flaky", (1,))
            unknown = app.send_task("fleet_tasks.nothing")
            held = app.send_task("fleet_tasks.hold", (str(tmp_path), "held"))
            begun(tmp_path, "held")
            app.control.revoke(held.id, terminate=True, destination=[name])
            begins = ["task-received", "task-started"]
            wait_for(events, added, *begins, "task-succeeded")
            wait_for(events, failed, *begins, "task-failed")
            wait_for(events, again, *begins, "task-retried", *begins, "task-succeeded")
            wait_for(events, unknown, "task-received", "task-failed")
            wait_for(events, held, *begins, "task-revoked")
            assert worker.end() == 0
        eventually(lambda: events[-1]["type"] == "worker-offline", "it says that it goes")
    assert {each["hostname"] for each in events} == {name}
    of = {(each.get("uuid"), each["type"]): each for each in events}
    received = of[added.id, "task-received"]
    assert (received["name"], received["args"]) == ("fleet_tasks.add", "(1, 2)")
    succeeded = of[added.id, "task-succeeded"]
    assert (succeeded["result"], succeeded["runtime"] > 0) == ("3", True)
    assert of[failed.id, "task-failed"]["exception"] == 'ValueError("no", 3)'
    assert "fail" in of[failed.id, "task-failed"]["traceback"]
    assert of[held.id, "task-revoked"]["terminated"] is True
    assert events[0]["type"] == "worker-online"
    assert (events[0]["sw_ident"], len(events[0]["loadavg"])) == ("manyhands", 3)


def test_tasks_are_told_once_somebody_asks(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    with (
        named_worker(tmp_path, amqp_url, queue, kind="thread:1") as (_, name),
        heard(app) as events,
    ):
        unheard = app.send_task("fleet_tasks.add", (1, 2))
        assert unheard.get(timeout=WATCHDOG) == 3
        assert ask(app, name, "enable_events") == {"ok": "task events enabled"}
        assert ask(app, name, "enable_events") == {"ok": "task events already enabled"}
        results = [app.send_task("fleet_tasks.add", (n, n)) for n in range(100)]
        for result in results:
            wait_for(events, result, "task-received", "task-started", "task-succeeded")
        assert told(events, unheard) == []
        eventually(
            lambda: any(each["type"] == "worker-heartbeat" for each in events),
            "it is there",
            WATCHDOG,
        )
        assert ask(app, name, "disable_events") == {"ok": "task events disabled"}
        later = app.send_task("fleet_tasks.add", (1, 2))
        assert later.get(timeout=WATCHDOG) == 3
        assert ask(app, name, "ping") == {"ok": "pong"}
        assert told(events, later) == []
        clocks = [each["clock"] for each in events if each["hostname"] == name]
        assert len(clocks) == len(set(clocks))
