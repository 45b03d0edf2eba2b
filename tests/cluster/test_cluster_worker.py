"""Our worker in a fleet with stock Celery: a stock producer asks, and the worker answers."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import manyhands as mh
from eventually import begun, eventually, is_running, let_go
from stock_celery import stock_app
from task_worker import WATCHDOG, TaskWorker, task_worker

DEAD_BECAUSE = "mh-dead-because"


@pytest.fixture
def queue() -> str:
    return f"tasks-{uuid4().hex[:8]}"


@pytest.fixture
def app(amqp_url: str, queue: str) -> Iterator[Any]:
    with stock_app(amqp_url, queue) as app:
        yield app


@pytest.fixture
def worker(tmp_path: Path, amqp_url: str, queue: str) -> Iterator[TaskWorker]:
    with task_worker(tmp_path, amqp_url, queue) as worker:
        yield worker


@pytest.fixture(scope="module")
def connected_before(amqp_url: str) -> None:
    """Make a first connection: it starts a thread that the next ones use, too."""
    with mh.ClusterExecutor(amqp_url):
        pass


def ask(app: Any, task: str, *args: Any, **options: Any) -> Any:
    """Send a task; return what its producer gets."""
    return app.send_task(f"fleet_tasks.{task}", args, **options)


def answer(app: Any, task: str, *args: Any, **options: Any) -> Any:
    return ask(app, task, *args, **options).get(timeout=WATCHDOG)


def raised(result: Any) -> BaseException:
    """Return what a task has raised, as its producer sees it."""
    error = result.get(timeout=WATCHDOG, propagate=False)
    assert isinstance(error, BaseException), error
    return error


def dead_letters(app: Any, queue: str, number: int) -> list[Any]:
    """Return so many messages from a queue's dead letters."""
    found: list[Any] = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel

        def look() -> bool:
            message = channel.basic_get(f"{queue}.dead", no_ack=True)
            if message is not None:
                found.append(message)
            return len(found) == number

        eventually(look, f"{number} dead letters", WATCHDOG)
    return found


def length(app: Any, queue: str) -> int:
    """Return how many messages are ready in a queue."""
    with app.connection_for_read() as connection:
        count: int = connection.default_channel.queue_declare(queue, passive=True).message_count
    return count


@pytest.mark.parametrize(
    "kind",
    [
        "process:2",
        pytest.param("thread:4", marks=pytest.mark.once("as on processes")),
        pytest.param("coroutine:100", marks=pytest.mark.once("as on processes")),
    ],
)
def test_a_stock_producer_is_answered(
    app: Any, tmp_path: Path, amqp_url: str, queue: str, kind: str
) -> None:
    with task_worker(tmp_path, amqp_url, queue, "--workers", kind) as worker:
        results = [ask(app, "add", n, n) for n in range(50)]
        assert [each.get(timeout=WATCHDOG) for each in results] == [2 * n for n in range(50)]
        assert answer(app, "nap", 0.01) == 0.01
        assert answer(app, "flaky", 2) == 2
        assert answer(app, "fickle")
        error = raised(ask(app, "fail", "no"))
        assert (type(error), error.args) == (ValueError, ("no", 3))
        assert worker.end() == 0


def test_values_that_json_has_not_come_and_go(app: Any, worker: TaskWorker) -> None:
    at = datetime(2026, 11, 30, 21, 33, tzinfo=UTC)
    values = [at, at.date(), uuid4(), b"plain", b"\xff\x00", {"nested": [at]}]
    assert answer(app, "echo", *values, kwargs={"key": at}) == [values, {"key": at}]


def test_a_failure_has_its_traceback_and_nothing_of_ours(app: Any, worker: TaskWorker) -> None:
    result = ask(app, "fail", "no")
    raised(result)
    assert "fleet_tasks.py" in result.traceback
    assert "outcome.py" not in result.traceback


def test_retries_end(app: Any, worker: TaskWorker) -> None:
    assert isinstance(raised(ask(app, "flaky", 3)), KeyError)


@pytest.mark.once("the broker and Rust decide")
def test_chains_and_callbacks_go_on(app: Any, worker: TaskWorker, tmp_path: Path) -> None:
    from celery import chain

    def of(task: str, *args: Any) -> Any:
        return app.signature(f"fleet_tasks.{task}", args)

    assert chain(of("add", 1, 2), of("add", 3), of("add", 4))().get(timeout=WATCHDOG) == 10
    notes = tmp_path / "notes"
    of("add", 1, 2).apply_async(link=of("note", str(notes))).get(timeout=WATCHDOG)
    eventually(notes.exists, "the callback has run")
    broken = chain(of("add", 1, 2), of("fail", "no"), of("add", 4))()
    assert isinstance(raised(broken), ValueError), "the last of the chain is answered"


@pytest.mark.once("the broker and Rust decide")
def test_an_unknown_task_is_answered_and_kept(app: Any, worker: TaskWorker, queue: str) -> None:
    error = raised(ask(app, "nothing"))
    assert type(error).__name__ == "NotRegistered"
    (letter,) = dead_letters(app, queue, 1)
    assert letter.headers[DEAD_BECAUSE] == "not-registered"


BODY = '[[1, 2], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
HEADERS = {"task": "fleet_tasks.add", "id": "7d0c", "lang": "py"}
POISON = {
    "no-task": ({}, "text/plain", b"hello"),
    "no-id": ({"task": "fleet_tasks.add", "lang": "py"}, "application/json", BODY),
    "body-length": (HEADERS, "application/json", "[[], {}]"),
    "bad-json": (HEADERS, "application/json", "[[1, 2"),
    "not-utf-8": (HEADERS, "application/json", b"[[\xff]]"),
    "content-type": (HEADERS, "application/x-nothing", BODY),
    "serializer": (HEADERS, "application/x-python-serialize", pickle.dumps(([1, 2], {}, {}))),
    "damaged": ({**HEADERS, "compression": "application/x-gzip"}, "application/json", b"xxxx"),
    "bad-header": ({**HEADERS, "retries": "many"}, "application/json", BODY),
}


@pytest.mark.once("the broker and Rust decide")
def test_poison_is_kept_and_named_and_harms_nobody(
    app: Any, worker: TaskWorker, queue: str
) -> None:
    import amqp

    with app.connection_for_write() as connection:
        for headers, content_type, body in POISON.values():
            message = amqp.Message(
                body,
                content_type=content_type,
                content_encoding="utf-8",
                application_headers=headers,
                correlation_id="7d0c",
            )
            connection.default_channel.basic_publish(message, "", queue)
    letters = dead_letters(app, queue, len(POISON))
    assert {letter.headers[DEAD_BECAUSE] for letter in letters} == {*POISON}
    bodies = {letter.headers[DEAD_BECAUSE]: letter.body for letter in letters}
    assert bodies["not-utf-8"] == POISON["not-utf-8"][2]
    assert answer(app, "add", 2, 3) == 5


@pytest.mark.once("the broker and Rust decide")
def test_whoever_waits_for_poison_hears_of_it(app: Any, worker: TaskWorker) -> None:
    error = raised(ask(app, "add", 1, 2, serializer="pickle"))
    assert type(error).__name__ == "ContentDisallowed"


def test_pickle_is_taken_where_that_is_allowed(
    app: Any, tmp_path: Path, amqp_url: str, queue: str
) -> None:
    with task_worker(tmp_path, amqp_url, queue, "--pickle"):
        assert answer(app, "add", 2, 3, serializer="pickle") == 5
        notes = tmp_path / "notes"
        link = app.signature("fleet_tasks.note", (str(notes),))
        answer(app, "add", 2, 3, serializer="pickle", link=link)
        eventually(notes.exists, "the callback has run")


@pytest.mark.once("the pool tells of deaths, on each Python in its own tests")
def test_a_task_that_kills_its_process_is_run_again_and_then_kept(
    app: Any, worker: TaskWorker, queue: str, tmp_path: Path
) -> None:
    assert answer(app, "die", str(tmp_path / "once"), 1) == 2
    result = ask(app, "die", str(tmp_path / "ever"), 99)
    others = [ask(app, "add", n, n) for n in range(20)]
    assert type(raised(result)).__name__ == "WorkerLostError"
    assert [each.get(timeout=WATCHDOG) for each in others] == [2 * n for n in range(20)]
    (letter,) = dead_letters(app, queue, 1)
    assert (letter.headers[DEAD_BECAUSE], letter.headers["mh-deliveries"]) == ("deaths", 2)
    assert (tmp_path / "ever").read_text() == "xxx"


@pytest.mark.once("the broker and Rust decide")
def test_a_killed_worker_loses_nothing(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with task_worker(tmp_path, amqp_url, queue) as worker:
        held = [ask(app, "hold", str(tmp_path), str(n)) for n in range(4)]
        pids = [begun(tmp_path, str(n)) for n in range(2)]
        worker.end(signal.SIGKILL)
    eventually(lambda: not any(map(is_running, pids)), "its processes end with it")
    let_go(tmp_path)
    with task_worker(tmp_path, amqp_url, queue):
        assert [each.get(timeout=WATCHDOG) for each in held] == ["0", "1", "2", "3"]


@pytest.mark.once("the broker and Rust decide")
def test_too_early_waits_and_too_late_does_not_run(app: Any, worker: TaskWorker) -> None:
    now = datetime.now(UTC)
    late = ask(app, "add", 1, 2, expires=now - timedelta(seconds=1))
    assert type(raised(late)).__name__ == "TaskRevokedError"
    # More than there are slots: what is put off takes nobody's place.
    early = [ask(app, "add", n, 0, eta=now + timedelta(seconds=2)) for n in range(20)]
    assert answer(app, "add", 2, 3) == 5
    assert datetime.now(UTC) < now + timedelta(seconds=2)
    assert [each.get(timeout=WATCHDOG) for each in early] == [*range(20)]
    assert datetime.now(UTC) >= now + timedelta(seconds=2)


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.once("the broker and Rust decide")
def test_a_worker_that_ends_finishes_or_hands_back(
    app: Any, tmp_path: Path, amqp_url: str, queue: str, is_cold: bool
) -> None:
    with task_worker(tmp_path, amqp_url, queue, "--workers", "process:1") as worker:
        held = [ask(app, "hold", str(tmp_path), str(n)) for n in range(3)]
        begun(tmp_path, "0")
        worker.process.send_signal(signal.SIGQUIT if is_cold else signal.SIGTERM)
        if not is_cold:
            let_go(tmp_path)
            assert held[0].get(timeout=WATCHDOG) == "0"
        assert worker.ended() == 0
    assert length(app, queue) == (3 if is_cold else 2)
    let_go(tmp_path)
    with task_worker(tmp_path, amqp_url, queue):
        assert [each.get(timeout=WATCHDOG) for each in held] == ["0", "1", "2"]


@pytest.mark.once("the broker and Rust decide")
def test_a_drain_has_a_deadline(app: Any, tmp_path: Path, amqp_url: str, queue: str) -> None:
    with task_worker(tmp_path, amqp_url, queue, "--grace", "0.2") as worker:
        ask(app, "hold", str(tmp_path), "held")
        begun(tmp_path, "held")
        assert worker.end() == 0
    assert length(app, queue) == 1


def test_time_limits(app: Any, worker: TaskWorker) -> None:
    assert type(raised(ask(app, "hang"))).__name__ == "TimeLimitExceeded"
    assert answer(app, "tidy", 10) == "tidied"
    assert answer(app, "tidy", 0) is None


@pytest.mark.once("the broker and Rust decide")
def test_nobody_is_told_a_result_that_is_ignored(
    app: Any, worker: TaskWorker, tmp_path: Path
) -> None:
    ask(app, "quiet", str(tmp_path / "done"))
    eventually((tmp_path / "done").exists, "it has run")


def test_our_executor_and_our_worker(
    amqp_url: str, worker: TaskWorker, queue: str, connected_before: None
) -> None:
    with mh.ClusterExecutor(amqp_url, queue) as executor:
        futures = [executor.submit("fleet_tasks.add", n, n) for n in range(100)]
        assert [each.result(WATCHDOG) for each in futures] == [2 * n for n in range(100)]
        with pytest.raises(ValueError, match="no"):
            executor.submit("fleet_tasks.fail", "no").result(WATCHDOG)


@pytest.mark.once("it is the command line")
def test_what_cannot_work_says_why_without_secrets(
    tmp_path: Path, amqp_url: str, queue: str
) -> None:
    wrong = amqp_url.replace("@", "x@", 1)
    with pytest.raises(AssertionError) as said, task_worker(tmp_path, wrong, queue):
        pass
    text = str(said.value)
    assert "manyhands: " in text
    secret = amqp_url.partition("://")[2].partition("@")[0].rpartition(":")[2]
    assert secret not in text
    assert os.fspath(tmp_path) not in text, "no traceback"


@pytest.mark.once("the broker and Rust decide")
def test_celery_inspects_and_controls_it(app: Any, worker: TaskWorker, tmp_path: Path) -> None:
    held = ask(app, "hold", str(tmp_path), "held")
    begun(tmp_path, "held")
    early = ask(app, "add", 1, 2, countdown=3600)
    asked = app.control.inspect(timeout=1)
    eventually(lambda: any((asked.scheduled() or {}).values()), "it is there", WATCHDOG)
    ((name, pong),) = asked.ping().items()
    assert (name.partition("-")[0], pong) == ("mh", {"ok": "pong"})
    assert [task["id"] for task in asked.active()[name]] == [held.id]
    assert [each["request"]["id"] for each in asked.scheduled()[name]] == [early.id]
    assert "fleet_tasks.add" in asked.registered()[name]
    assert asked.destination is None
    assert app.control.inspect(destination=["nobody@here"], timeout=0.5).ping() is None
    (unknown,) = app.control.broadcast("fly", reply=True, timeout=1)
    assert unknown[name] == {"error": "KeyError('fly')"}
    app.control.revoke([early.id])
    assert type(raised(early)).__name__ == "TaskRevokedError"
    app.control.revoke(held.id, terminate=True)
    assert type(raised(held)).__name__ == "TaskRevokedError"
    app.control.shutdown(destination=[name])
    assert worker.ended() == 0


@pytest.mark.once("the broker and Rust decide")
def test_a_cancelled_future_ends_what_runs(
    amqp_url: str, worker: TaskWorker, queue: str, tmp_path: Path, connected_before: None
) -> None:
    with mh.ClusterExecutor(amqp_url, queue) as executor:
        held = [executor.submit("fleet_tasks.hold", str(tmp_path), str(n)) for n in range(2)]
        for n in range(2):
            begun(tmp_path, str(n))
        assert all(each.cancel() for each in held)
        assert executor.submit("fleet_tasks.add", 2, 3).result(WATCHDOG) == 5
