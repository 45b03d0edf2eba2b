"""Write down what stock Celery sends, for the tests of the crate `manyhands-cluster`.

    pip install celery==5.7.0
    python tests/cluster/capture_golden.py

A producer and a worker run in this process, on kombu's transport in memory. What each hands over
for sending is laid out as py-amqp does it for RabbitMQ, and goes into the JSON files in `golden`.
"""

from __future__ import annotations

import json
import pickle
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery.app.amqp
from amqp import Message
from celery import Celery, chain, group
from celery.contrib.testing.worker import start_worker
from celery.exceptions import Reject
from kombu import Exchange
from kombu.messaging import Producer

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
# To the millisecond, as the crate has it.
NOW = datetime(2026, 11, 30, 21, 33, 14, 250_000, tzinfo=UTC)
LONGEST_WAIT_S = 20
Sent = dict[str, Any]

sent: list[Sent] = []
app = Celery("golden", broker="memory://", backend="rpc://")
app.conf.update(
    task_send_sent_event=True,
    task_track_started=True,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=True,
    accept_content=["json", "pickle"],
)
app.now = lambda: NOW
celery.app.amqp.anon_nodename = lambda: "gen7@golden"


def laid_out(body: Any, headers: Any, properties: Any, **plain: Any) -> str:
    """Return the properties as they are on the wire, in hexadecimal digits."""
    message = Message(body, application_headers=headers, **plain, **properties)
    return bytes(message._serialize_properties()).hex()


def without_places(body: str) -> str:
    """Return a body whose tracebacks do not say where Celery and this file are."""
    return body.replace(sysconfig.get_paths()["purelib"], "/lib").replace(str(HERE), "/golden")


@contextmanager
def recording() -> Iterator[None]:
    """Keep what is handed over for sending, and send it."""
    publish = Producer._publish

    def keep(
        self: Producer,
        body: Any,
        priority: Any,
        content_type: Any,
        content_encoding: Any,
        headers: Any,
        properties: Any,
        routing_key: Any,
        mandatory: Any,
        immediate: Any,
        exchange: Any,
        *rest: Any,
        **more: Any,
    ) -> Any:
        data = body if isinstance(body, bytes) else without_places(body).encode()
        plain = {
            "priority": priority,
            "content_type": content_type,
            "content_encoding": content_encoding,
        }
        is_text = content_encoding == "utf-8" and "compression" not in headers
        sent.append(
            {
                "exchange": exchange.name if isinstance(exchange, Exchange) else exchange,
                "routing_key": routing_key,
                "properties": laid_out(body, headers, properties, **plain),
                "headers": json.loads(json.dumps(headers)),
                "correlation_id": properties.get("correlation_id"),
                "body": data.decode() if is_text else {"hex": data.hex()},
            }
        )
        return publish(
            self, body, priority, content_type, content_encoding, headers, properties,
            routing_key, mandatory, immediate, exchange, *rest, **more,
        )  # fmt: skip

    Producer._publish = keep
    try:
        yield
    finally:
        Producer._publish = publish


def task_of(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a task of a function, under a name that does not depend on this file's."""
    return lambda function: app.task(name=f"golden.{function.__name__}", **options)(function)


@task_of()
def add(a: float, b: float) -> float:
    return a + b


@task_of()
def show(*args: object, **kwargs: object) -> str:
    return f"{args} {kwargs}"


@task_of()
def note(task_id: str) -> str:
    return task_id


@task_of()
def fail(*_: object) -> None:
    raise ValueError("too small", 3)


@task_of(bind=True, max_retries=1, default_retry_delay=0)
def again(self: Any) -> str:
    if self.request.retries == 0:
        raise self.retry(exc=OSError("not yet"))
    return "now"


@task_of()
def reject() -> None:
    raise Reject("no", requeue=False)


def until(what: str, is_there: Callable[[Sent], bool]) -> Sent:
    """Wait for a message, and return it."""
    end = time.monotonic() + LONGEST_WAIT_S
    while time.monotonic() < end:
        for message in list(sent):
            if is_there(message):
                return message
        time.sleep(0.01)
    raise TimeoutError(f"stock Celery has not sent {what}")


def task(task_id: str, retries: int = 0) -> Sent:
    return until(
        f"the task {task_id}",
        lambda sent: (
            (sent["headers"].get("id"), sent["headers"].get("retries")) == (task_id, retries)
        ),
    )


def reply(task_id: str, status: str) -> Sent:
    return until(
        f"{status} of {task_id}",
        lambda sent: (
            sent["correlation_id"] == task_id
            and isinstance(sent["body"], str)
            and sent["body"].startswith(f'{{"status": "{status}"')
        ),
    )


def event(kind: str) -> Sent:
    return until(f"the event {kind}", lambda sent: f'"type": "{kind}"' in sent["body"])


def tasks() -> dict[str, Sent]:
    """Send tasks of all kinds, which no worker gets, and return their messages."""
    later = NOW + timedelta(minutes=5)
    app.set_current()
    add.apply_async((2, 3), task_id="plain")
    show.apply_async(("é€😀", None, 1.5, [True, {"a": "b\n"}]), {"x": 2}, task_id="values")
    show.apply_async((float("nan"), float("-inf")), task_id="python-numbers")
    add.apply_async((2, 3), task_id="later", eta=later)
    add.apply_async((2, 3), task_id="countdown", countdown=90)
    add.apply_async((2, 3), task_id="expires", expires=90)
    add.apply_async(
        (2, 3), task_id="options", queue="fast", priority=7, time_limit=60, soft_time_limit=1.5,
        ignore_result=True, shadow="sum", headers={"tenant": "é", "weight": 3}, retries=2,
        reply_to="answers", root_id="root", parent_id="parent",
    )  # fmt: skip
    app.send_task("golden.elsewhere", (1,), task_id="by-name")
    add.apply_async(
        (2, 3), task_id="links",
        link=[add.s(1).set(task_id="link-1"), show.si("x").set(task_id="link-2", queue="fast")],
        link_error=fail.s().set(task_id="error-1"),
    )  # fmt: skip
    chain(
        add.s(1, 2).set(task_id="chain-1"), add.s(3).set(task_id="chain-2"),
        add.s(4).set(task_id="chain-3"),
    ).apply_async()  # fmt: skip
    group(add.s(1, 2).set(task_id="group-1"), add.s(3, 4).set(task_id="group-2")).apply_async(
        task_id="group"
    )
    stamped = add.s(2, 3).set(task_id="stamped")
    stamped.stamp(tenant="blue", level=3)
    stamped.apply_async()
    add.apply_async((2, 3), task_id="pickle", serializer="pickle")
    add.apply_async((2, 3), task_id="zlib", compression="zlib")
    names = "plain values python-numbers later countdown expires options by-name links chain-1"
    names += " group-1 group-2 stamped pickle zlib"
    found = {name: task(name) for name in [*names.split()] if name != "options"}
    found["options"] = task("options", 2)
    assert pickle.loads(bytes.fromhex(found["pickle"]["body"]["hex"]))[0] == (2, 3)
    app.conf.task_protocol = 1
    with app.producer_pool.acquire() as producer:
        message = app.amqp.as_task_v1("protocol-1", "golden.add", (2, 3), callbacks=[add.s(1)])
        app.amqp.send_task_message(producer, "golden.add", message, queue="celery")
    found["protocol-1"] = until("protocol 1", lambda sent: '"protocol-1"' in str(sent["body"]))
    app.conf.task_protocol = 2
    return found


def replies() -> dict[str, Sent]:
    """Return what a worker answers, and what it sends after a task has ended."""
    add.apply_async((2, 3), task_id="s", reply_to="answers", parent_id="parent", root_id="root")
    add.apply_async((1,), {"b": 2}, task_id="in-group", group_id="g", group_index=1)
    fail.apply_async(task_id="f", link_error=note.s().set(task_id="f-error"))
    again.apply_async(task_id="r")
    reject.apply_async(task_id="j")
    add.apply_async(
        (2, 3), task_id="c",
        link=[show.s(1).set(task_id="c-1"), show.si(2).set(task_id="c-2", queue="fast")],
    )  # fmt: skip
    add.apply_async((2, 3), task_id="c1", link=show.s(1).set(task_id="c1-1"))
    chain(
        add.s(1, 2).set(task_id="n-1"), add.s(3).set(task_id="n-2"), show.s().set(task_id="n-3")
    ).apply_async()
    chain(
        fail.si().set(task_id="b-1"), add.s(3).set(task_id="b-2"), show.s().set(task_id="b-3")
    ).apply_async()
    found = {
        "started": reply("s", "STARTED"),
        "success": reply("s", "SUCCESS"),
        "success-in-group": reply("in-group", "SUCCESS"),
        "failure": reply("f", "FAILURE"),
        "retry": reply("r", "RETRY"),
        "retried": task("r", 1),
        "success-after-retry": reply("r", "SUCCESS"),
        "rejected": reply("j", "FAILURE"),
        "with-callback": task("c1"),
        "callback": task("c1-1"),
        "with-callback-success": reply("c1", "SUCCESS"),
        "with-callbacks": task("c"),
        "callback-1": task("c-1"),
        "callback-2": task("c-2"),
        "with-callbacks-success": reply("c", "SUCCESS"),
        "with-errback": task("f"),
        "errback": task("f-error"),
        "chain-1": task("n-1"),
        "chain-2": task("n-2"),
        "chain-3": task("n-3"),
        "chain-1-success": reply("n-1", "SUCCESS"),
        "broken-chain-1": task("b-1"),
        "broken-chain-2": reply("b-2", "FAILURE"),
        "broken-chain-3": reply("b-3", "FAILURE"),
    }
    app.control.revoke("v")
    until("the request to revoke", lambda sent: '"method": "revoke"' in sent["body"])
    app.control.ping(timeout=1)
    add.apply_async((2, 3), task_id="v")
    found["revoked"] = reply("v", "REVOKED")
    app.conf.result_extended = True
    add.apply_async((2, 3), task_id="x")
    found["extended"] = reply("x", "SUCCESS")
    app.conf.result_extended = False
    return found


def events() -> dict[str, Sent]:
    kinds = "task-sent task-received task-started task-succeeded task-failed task-retried"
    kinds += " task-revoked worker-online worker-heartbeat worker-offline"
    found = {kind: event(kind) for kind in kinds.split()}
    # As a worker with an event loop does, on RabbitMQ.
    with (
        app.connection_for_write() as connection,
        app.events.Dispatcher(connection, hostname="w@golden", buffer_group={"task"}) as dispatcher,
    ):
        dispatcher.send("task-started", uuid="s")
        dispatcher.send("task-succeeded", uuid="s", result="5", runtime=0.25)
        dispatcher.flush()
    found["task-multi"] = until("several", lambda sent: sent["routing_key"] == "task.multi")
    return found


def control() -> dict[str, Sent]:
    """Return requests of remote control, and their answers."""
    app.control.inspect(["w@golden"]).stats()
    app.control.broadcast("ping", pattern="w@*", matcher="glob", reply=True, timeout=1)
    app.control.broadcast("fly", destination=["w@golden"], reply=True, timeout=1)

    def of(text: str) -> Sent:
        return until(text, lambda sent: text in str(sent["body"]) and "pidbox" in sent["exchange"])

    return {
        "revoke": of('"method": "revoke"'),
        "stats": of('"method": "stats"'),
        "pattern": of('"pattern": "w@*"'),
        "unknown": of('"method": "fly"'),
        "pong": of('{"w@golden": {"ok": "pong"}}'),
        "stats-answer": of('{"w@golden": {"total"'),
        "unknown-answer": of('{"w@golden": {"error"'),
    }


def write(name: str, found: dict[str, Sent]) -> None:
    for message in found.values():
        message.pop("correlation_id", None)
    text = json.dumps(found, indent=1, ensure_ascii=True)
    (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    with recording():
        found = {"tasks": tasks()}
        with app.connection_for_write() as connection:
            app.amqp.queues["celery"](connection.default_channel).purge()
        sent.clear()
        with start_worker(
            app, pool="solo", perform_ping_check=False, hostname="w@golden", loglevel="ERROR",
            task_events=True, without_heartbeat=False,
        ):  # fmt: skip
            event("worker-heartbeat")
            found["replies"] = replies()
            found["control"] = control()
        found["events"] = events()
    for name, messages in found.items():
        write(name, messages)


if __name__ == "__main__":
    main()
