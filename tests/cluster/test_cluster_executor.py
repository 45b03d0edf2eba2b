"""`ClusterExecutor` beside stock Celery workers: futures as everywhere, through every loss."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from amqp_proxy import BROKER, CLIENT, AmqpProxy
from eventually import eventually
from manyhands._cluster.signature import Signature
from stock_celery import TASKS, WATCHDOG, stock_app, stock_worker
from stock_client import stock_connection

pytestmark = pytest.mark.once("the worker is Celery's, and messages are bytes")

MORE = """
@app.task
def echo(*args, **kwargs):
    return [args, kwargs]

@app.task(bind=True)
def told(self):
    request = self.request
    return [request.id, request.retries, request.root_id, request.timelimit, request.argsrepr]

class Unknown(Exception):
    pass

@app.task
def fail_oddly():
    raise Unknown("apple", 3)

@app.task
def fail_until(path, number):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < number:
        raise OSError(5, "not yet")
    return os.path.getsize(path)

@app.task
def blow_up(size):
    return "x" * size

@app.task
def mark(folder, number):
    open(f"{folder}/{number}", "w").close()

@app.task
def nap(seconds):
    time.sleep(seconds)
    return seconds
"""


@pytest.fixture(scope="module")
def queue(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a queue that a stock worker with two processes listens to."""
    name = f"stock-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("stock")
    with stock_worker(folder, amqp_url, name, text=TASKS + MORE):
        yield name


@pytest.fixture
def executor(amqp_url: str, queue: str) -> Iterator[mh.ClusterExecutor]:
    with mh.ClusterExecutor(amqp_url, queue) as executor:
        yield executor


def test_a_stock_worker_runs_tasks(executor: mh.ClusterExecutor) -> None:
    futures = [executor.submit("stock_tasks.add", n, 1) for n in range(50)]
    assert [future.result(WATCHDOG) for future in futures] == list(range(1, 51))
    assert list(executor.map("stock_tasks.add", range(5), range(5))) == [0, 2, 4, 6, 8]
    numbers = executor.statistics()
    assert (numbers["done"], numbers["failed"]) == (55, 0)
    # An answer may come before the broker's word for its task.
    eventually(lambda: executor.statistics()["unconfirmed"] == 0, "all is confirmed", WATCHDOG)


def test_values_arrive_as_celery_sends_them(executor: mh.ClusterExecutor) -> None:
    values: list[Any] = ["ü", 1, 2.5, None, True, [1], {"a": 1}, date(2026, 1, 2)]
    values += [datetime(2026, 1, 2, 3, 4, 5), Decimal("1.50"), uuid.UUID(int=7), b"abc", b"\xff"]
    args, kwargs = executor.submit("stock_tasks.echo", *values, key=values).result(WATCHDOG)
    # Celery's own decoder makes bytes of UTF-8 into text on the way back.
    assert (args, kwargs["key"]) == (values, values)


def test_a_message_says_what_celery_says(executor: mh.ClusterExecutor) -> None:
    view = executor.options(timeout=25, name="shown")
    task_id, retries, root, limits, _ = view.submit("stock_tasks.told").result(WATCHDOG)
    assert (retries, root, limits) == (0, task_id, [25, None])


def test_exceptions_are_those_of_this_program(executor: mh.ClusterExecutor) -> None:
    with pytest.raises(ValueError, match="no such apple") as caught:
        executor.submit("stock_tasks.fail", "no such apple").result(WATCHDOG)
    assert "stock_tasks.py" in str(caught.value.__cause__)
    with pytest.raises(mh.RemoteError, match="has not imported") as unknown:
        executor.submit("stock_tasks.fail_oddly").result(WATCHDOG)
    assert unknown.value.arguments == ("apple", 3)
    assert unknown.value.kind.endswith("Unknown")
    with pytest.raises(mh.RemoteError, match=r"no worker .* 'stock_tasks.none'"):
        executor.submit("stock_tasks.none").result(WATCHDOG)


def test_an_answer_that_is_too_large_fails_its_future(executor: mh.ClusterExecutor) -> None:
    with pytest.raises(mh.ManyhandsError, match="cannot be read"):
        executor.submit("stock_tasks.blow_up", 33 << 20).result(WATCHDOG)


def test_failed_tasks_are_tried_again(executor: mh.ClusterExecutor, tmp_path: Path) -> None:
    path = str(tmp_path / "tries")
    view = executor.options(retries=3, retry_on=OSError, backoff=0.05)
    assert view.submit("stock_tasks.fail_until", path, 3).result(WATCHDOG) == 3
    assert executor.statistics()["retried"] == 2
    with pytest.raises(ValueError, match="no"):
        view.submit("stock_tasks.fail", "no").result(WATCHDOG)
    assert executor.statistics()["retried"] == 2


def test_tasks_wait_for_their_time(executor: mh.ClusterExecutor) -> None:
    began = time.monotonic()
    soon = executor.options(countdown=0.5).submit("stock_tasks.add", 1, 1)
    eta = executor.options(eta=datetime.now() + timedelta(seconds=0.5))
    assert soon.result(WATCHDOG) + eta.submit("stock_tasks.add", 1, 1).result(WATCHDOG) == 4
    assert time.monotonic() - began > 0.45
    late = executor.options(countdown=0.5, expires=0.1).submit("stock_tasks.add", 1, 1)
    with pytest.raises(CancelledError, match="revoked"):
        late.result(WATCHDOG)


def test_what_is_not_wanted_is_done_when_the_broker_has_it(executor: mh.ClusterExecutor) -> None:
    future = executor.options(ignore_result=True).submit("stock_tasks.fail", "unheard")
    assert future.result(WATCHDOG) is None


def test_a_running_task_is_cancelled(executor: mh.ClusterExecutor, tmp_path: Path) -> None:
    path = tmp_path / "held"
    future = executor.submit("stock_tasks.hold", str(path))
    eventually(Path(f"{path}.begun").exists, "the task begins", WATCHDOG)
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(0)
    # Both processes of the worker answer: the one that had it was ended and replaced.
    pids = {executor.submit("stock_tasks.pid").result(WATCHDOG) for _ in range(20)}
    assert len(pids) >= 1 and executor.statistics()["cancelled"] == 1


def test_tasks_of_a_celery_app_are_submitted(amqp_url: str, queue: str) -> None:
    with stock_app(amqp_url, queue) as app, mh.ClusterExecutor(amqp_url, queue) as executor:

        def plus(a: int, b: int) -> int:
            raise AssertionError("it runs elsewhere")

        add = app.task(name="stock_tasks.add")(plus)
        assert executor.submit(add, 2, 3).result(WATCHDOG) == 5


def test_a_queue_that_no_worker_listens_to_keeps_tasks(amqp_url: str, queue: str) -> None:
    name = f"later-{uuid.uuid4().hex[:8]}"
    with mh.ClusterExecutor(amqp_url, name) as executor:
        future = executor.submit("stock_tasks.add", 1, 2)
        eventually(lambda: not executor.statistics()["unconfirmed"], "the broker has it")
        assert not future.done()
        future.cancel()


def call(name: str, *args: object) -> Signature:
    return Signature(f"stock_tasks.{name}", args)


def test_a_chain_passes_results_on(executor: mh.ClusterExecutor) -> None:
    chain = call("add", 1, 2) | call("add", 10) | call("add", 100)
    assert executor.send_chain(chain).result(WATCHDOG) == 113
    assert chain.delay().result(WATCHDOG) == 113
    assert executor.statistics()["queued"] == 0


def test_a_failing_chain_ends_with_its_exception(executor: mh.ClusterExecutor) -> None:
    chain = call("add", 1, 2) | call("fail") | call("add", 10) | call("add", 100)
    with pytest.raises(ValueError, match="3"):
        executor.send_chain(chain).result(WATCHDOG)


def test_after_a_step_elsewhere_a_chain_goes_on_in_the_executors_queue(
    amqp_url: str, queue: str
) -> None:
    name = f"own-{uuid.uuid4().hex[:8]}"
    first = Signature("stock_tasks.add", (1, 2), options={"queue": queue})
    with stock_connection(amqp_url) as connection, mh.ClusterExecutor(amqp_url, name) as executor:
        channel = connection.channel()
        channel.queue_declare(name, durable=True, auto_delete=False)
        future = executor.send_chain(first | call("add", 10))
        eventually(lambda: channel.basic_get(name, no_ack=True), "the second step comes")
        future.cancel()


def test_a_task_has_the_id_that_was_asked_for(executor: mh.ClusterExecutor) -> None:
    name = f"mine-{uuid.uuid4()}"
    told = executor.options(task_id=name).submit("stock_tasks.told").result(WATCHDOG)
    assert told[0] == name


STEPS = [
    (CLIENT, "basic.publish", {}),
    (CLIENT, "basic.publish", {"after": True}),
    (CLIENT, "header", {}),
    (CLIENT, "body", {"of_it": 20}),
    (CLIENT, "body", {"after": True}),
    (BROKER, "basic.ack", {}),
    (BROKER, "basic.ack", {"after": True}),
    (BROKER, "basic.deliver", {}),
    (BROKER, "header", {"of_it": 5}),
    (BROKER, "body", {}),
    (BROKER, "body", {"after": True}),
    (CLIENT, "basic.ack", {}),
    (CLIENT, "basic.ack", {"after": True}),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: "-".join(map(str, step)))
def test_futures_survive_a_cut(amqp_url: str, queue: str, step: tuple[str, str, Any]) -> None:
    sender, name, more = step
    with AmqpProxy(amqp_url) as proxy, mh.ClusterExecutor(proxy.url, queue) as executor:
        assert executor.submit("stock_tasks.add", 0, 0).result(WATCHDOG) == 0
        cut = proxy.cut_at(sender, name, 0 if name == "basic.ack" else 10, **more)
        for _ in range(10):  # one acknowledgement may stand for many
            futures = [executor.submit("stock_tasks.add", n, 1) for n in range(60)]
            assert [future.result(WATCHDOG) for future in futures] == list(range(1, 61))
            if cut.happened.is_set():
                break
        assert cut.happened.is_set()


@pytest.mark.parametrize(
    "step", ["channel.open", "queue.declare", "basic.consume", "confirm.select"]
)
def test_futures_survive_a_cut_while_it_connects_again(
    amqp_url: str, queue: str, step: str
) -> None:
    with AmqpProxy(amqp_url) as proxy, mh.ClusterExecutor(proxy.url, queue) as executor:
        cuts = [proxy.cut_at(CLIENT, step), proxy.cut_at(BROKER, f"{step}-ok", after=True)]
        proxy.cut()
        futures = [executor.submit("stock_tasks.add", n, 1) for n in range(20)]
        assert [future.result(WATCHDOG) for future in futures] == list(range(1, 21))
        assert all(cut.happened.is_set() for cut in cuts)


def test_answers_wait_while_the_connection_is_down(amqp_url: str, queue: str) -> None:
    with AmqpProxy(amqp_url) as proxy, mh.ClusterExecutor(proxy.url, queue) as executor:
        futures = [executor.submit("stock_tasks.nap", 0.3) for _ in range(4)]
        eventually(lambda: not executor.statistics()["unconfirmed"], "the broker has them")
        proxy.refuse()
        proxy.cut()
        eventually(lambda: executor.statistics()["trouble"], "the loss is noticed")
        late = executor.submit("stock_tasks.add", 1, 1)
        time.sleep(1)
        assert not late.done()
        proxy.accept()
        assert [future.result(WATCHDOG) for future in futures] == [0.3] * 4
        assert late.result(WATCHDOG) == 2


def no_answer(url: str) -> str:
    return "amqp://127.0.0.1:1/"


def wrong_password(url: str) -> str:
    head, _, rest = url.rpartition("@")
    return f"{head[: head.rindex(':')]}:secret@{rest}"


def no_vhost(url: str) -> str:
    return f"{url.rpartition('/')[0]}/nowhere"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (no_answer, "127.0.0.1:1/ does not serve us: .*refused"),
        (wrong_password, "ACCESS_REFUSED"),
        (no_vhost, "nowhere"),
    ],
)
def test_a_broker_that_does_not_serve_us_is_named(
    amqp_url: str, broken: Callable[[str], str], words: str
) -> None:
    with pytest.raises(mh.BrokerError, match=words) as caught:
        mh.ClusterExecutor(broken(amqp_url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mh.ClusterExecutor("http://me:secret@host"), "must begin with amqp://"),
        (lambda: mh.ClusterExecutor("amqp://host", serializer="yaml"), "serializer must be"),  # type: ignore[arg-type]
        (lambda: mh.ClusterExecutor("amqp://host", ""), "queue must have 1 to 255 bytes"),
        (lambda: mh.ClusterExecutor("amqp://host", "q" * 256), "queue must have 1 to 255 bytes"),
        (lambda: mh.ClusterExecutor("amqp://host", certfile="x"), "belong together"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "secret" not in str(caught.value)


def test_what_cannot_be_sent_is_refused(executor: mh.ClusterExecutor) -> None:
    with pytest.raises(TypeError, match="workers know tasks by name"):
        executor.submit(pow, 2, 3)
    with pytest.raises(TypeError, match="no form in JSON"):
        executor.submit("stock_tasks.add", object(), 1)
    with pytest.raises(ValueError, match="from 0 to 255"):
        executor.options(priority=256)
    with pytest.raises(TypeError, match="started elsewhere"):
        executor.resize(3)
    assert executor.statistics()["queued"] == 0


def test_after_shutdown_nothing_is_taken(amqp_url: str, queue: str) -> None:
    executor = mh.ClusterExecutor(amqp_url, queue)
    future = executor.submit("stock_tasks.add", 1, 2)
    executor.shutdown()
    executor.shutdown()
    assert future.result(0) == 3
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit("stock_tasks.add", 1, 2)


def test_futures_of_the_parent_fail_in_a_forked_child(executor: mh.ClusterExecutor) -> None:
    future = executor.submit("stock_tasks.nap", 0.5)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pytest.raises(mh.ManyhandsError, match="forked from"):
                future.result(WATCHDOG)
            with pytest.raises(RuntimeError, match="open another one"):
                executor.submit("stock_tasks.add", 1, 1)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert future.result(WATCHDOG) == 0.5


def test_a_program_that_ends_has_sent_all(amqp_url: str, queue: str, tmp_path: Path) -> None:
    program = f"""
import manyhands as mh
executor = mh.ClusterExecutor({amqp_url!r}, {queue!r})
for number in range(500):
    executor.submit("stock_tasks.mark", {str(tmp_path)!r}, number)
"""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WATCHDOG)
    assert time.monotonic() - began < 10  # it waits for no answer
    eventually(lambda: len(list(tmp_path.iterdir())) == 500, "all run", WATCHDOG)


def test_a_forked_child_opens_its_own(
    executor: mh.ClusterExecutor, amqp_url: str, queue: str
) -> None:
    assert executor.submit("stock_tasks.add", 1, 1).result(WATCHDOG) == 2
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with mh.ClusterExecutor(amqp_url, queue) as own:
                assert own.submit("stock_tasks.add", 2, 2).result(WATCHDOG) == 4
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert executor.submit("stock_tasks.add", 3, 3).result(WATCHDOG) == 6
