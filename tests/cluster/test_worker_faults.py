"""What a worker survives: cuts at every step, a broker that restarts, queues that vanish."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from amqp_proxy import BROKER, CLIENT, AmqpProxy
from eventually import begun, eventually, let_go
from manyhands._cluster.private_broker import PrivateBroker
from stock_celery import stock_app
from task_worker import WATCHDOG, task_worker

# What is done how often is told by files, one for each run.
TASKS = """
import os, uuid
from pathlib import Path
import manyhands as mh

@mh.task
def run(folder, number):
    Path(folder, f"{number}.{uuid.uuid4().hex}").touch()
    return number

@mh.task
def hold(folder, name):
    import time
    Path(folder, name + ".new").write_text(str(os.getpid()))
    Path(folder, name + ".new").rename(Path(folder, name + ".pid"))
    while not Path(folder, "go").exists():
        time.sleep(0.005)
    return name
"""
TASKS_SENT = 60


@pytest.fixture
def queue() -> str:
    return f"tasks-{uuid4().hex[:8]}"


@pytest.fixture
def app(amqp_url: str, queue: str) -> Iterator[Any]:
    with stock_app(amqp_url, queue) as app:
        yield app


def runs(folder: Path) -> dict[int, int]:
    """Return how often each task has run."""
    found: dict[int, int] = {}
    for file in folder.iterdir():
        number = int(file.stem)
        found[number] = found.get(number, 0) + 1
    return found


def left(broker: PrivateBroker, queue: str) -> int:
    """Return how many messages a queue has, delivered ones included."""
    name = f'{{resource, <<"/">>, queue, <<"{queue}">>}}'
    found = broker.ask(
        f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), rabbit_amqqueue:info(Q, [messages])."
    )
    return int(found.strip("[]{}").rpartition(",")[2])


@pytest.mark.parametrize(
    ("sender", "step", "skip", "after"),
    [
        (CLIENT, "protocol-header", 0, True),
        (BROKER, "connection.tune", 0, False),
        (CLIENT, "queue.declare", 1, False),
        (BROKER, "basic.consume-ok", 0, False),
        (BROKER, "basic.deliver", 10, False),
        (BROKER, "body", 20, True),
        (CLIENT, "basic.publish", 10, False),
        (CLIENT, "body", 10, True),
        # One may be for many.
        (BROKER, "basic.ack", 1, False),
        (CLIENT, "basic.ack", 1, False),
        (CLIENT, "basic.ack", 1, True),
    ],
)
def test_nothing_is_lost_when_the_connection_is_cut(
    app: Any,
    amqp_url: str,
    queue: str,
    tmp_path: Path,
    sender: str,
    step: str,
    skip: int,
    after: bool,
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with AmqpProxy(amqp_url) as proxy:
        cut = proxy.cut_at(sender, step, skip, after=after)
        with task_worker(tmp_path, proxy.url, queue, text=TASKS) as worker:
            sent = [
                app.send_task("fleet_tasks.run", (str(folder), number))
                for number in range(TASKS_SENT)
            ]
            assert [each.get(timeout=WATCHDOG) for each in sent] == [*range(TASKS_SENT)]
            assert cut.happened.wait(WATCHDOG)
            assert worker.end() == 0
    done = runs(folder)
    assert done.keys() == {*range(TASKS_SENT)}
    # What ran when the connection was lost came again, and was recognised.
    assert sum(done.values()) == TASKS_SENT


def test_a_broker_that_crashes_and_comes_back_loses_nothing(
    installed_rabbitmq: None, tmp_path: Path, queue: str
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    confirmed = {"confirm_publish": True}
    with (
        PrivateBroker() as broker,
        stock_app(broker.url, queue, broker_transport_options=confirmed) as app,
    ):
        with task_worker(tmp_path, broker.url, queue, text=TASKS) as worker:
            app.send_task("fleet_tasks.hold", (str(tmp_path), "held"), ignore_result=True)
            begun(tmp_path, "held")
            for number in range(20):
                app.send_task("fleet_tasks.run", (str(folder), number), ignore_result=True)
            broker.stop(kill=True)
            let_go(tmp_path)
            broker.start()
            # What was done and not acknowledged comes again, and is acknowledged then.
            eventually(lambda: left(broker, queue) == 0, "all is acknowledged", WATCHDOG)
            assert worker.end() == 0
    assert runs(folder) == dict.fromkeys(range(20), 1)


def test_a_queue_that_is_deleted_is_made_again(
    app: Any, amqp_url: str, queue: str, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    with task_worker(tmp_path, amqp_url, queue, text=TASKS) as worker:
        with app.connection_for_write() as connection:
            connection.default_channel.queue_delete(queue)
            connection.default_channel.queue_delete(f"{queue}.dead")
        eventually(
            lambda: any("does not consume" in line for line in worker.said), "it says so", WATCHDOG
        )
        eventually(
            lambda: sum("consumes from" in line for line in worker.said) == 2, "again", WATCHDOG
        )
        assert app.send_task("fleet_tasks.run", (str(folder), 1)).get(timeout=WATCHDOG) == 1
