"""What must not end a `ClusterExecutor`, or leave it waiting: forks, odd callbacks and options."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

import manyhands as mh
from eventually import eventually
from manyhands._cluster.private_broker import PrivateBroker
from stock_celery import WATCHDOG


@pytest.fixture
def queue() -> str:
    """Return a queue that nobody works on."""
    return f"lonely-{uuid4().hex[:8]}"


@pytest.fixture
def executor(amqp_url: str, queue: str) -> Iterator[mh.ClusterExecutor]:
    executor = mh.ClusterExecutor(amqp_url, queue)
    yield executor
    executor.shutdown(cancel_futures=True)


def confirmed(executor: mh.ClusterExecutor) -> bool:
    return not executor.statistics()["unconfirmed"]


FORK = """
import os, sys
import manyhands as mh

with mh.ClusterExecutor(sys.argv[1], sys.argv[2]) as executor:
    future = executor.submit("shop.price", 1)
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        assert not future.done()
        future.cancel()
    else:
        sys.exit()
"""


def test_a_forked_child_may_leave_the_block_of_its_parent(amqp_url: str, queue: str) -> None:
    command = [sys.executable, "-c", FORK, amqp_url, queue]
    assert subprocess.run(command, timeout=WATCHDOG).returncode == 0


BLOCKED = """
import sys
import manyhands as mh

executor = mh.ClusterExecutor(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
executor.submit("shop.price", 1)
"""


def test_a_program_ends_though_the_broker_reads_nothing(installed_rabbitmq: None) -> None:
    command = [sys.executable, "-c", BLOCKED]
    with (
        PrivateBroker() as broker,
        subprocess.Popen(
            [*command, broker.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program,
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        broker.ask("vm_memory_monitor:set_vm_memory_high_watermark(0.0).")
        program.stdin.write("go\n")
        program.stdin.close()
        try:
            assert program.wait(WATCHDOG) == 0
        finally:
            program.kill()


def test_a_callback_that_leaves_takes_no_other_future_along(executor: mh.ClusterExecutor) -> None:
    view = executor.options(ignore_result=True)
    futures = [view.submit("shop.price", number) for number in range(200)]
    this = threading.get_ident()

    def leave(_future: Any) -> None:
        if threading.get_ident() != this:
            sys.exit(3)

    for future in futures:
        future.add_done_callback(leave)
    assert [future.result(WATCHDOG) for future in futures] == [None] * 200


def test_infinite_limits_are_none(executor: mh.ClusterExecutor) -> None:
    future = executor.options(timeout=math.inf, soft_timeout=math.inf).submit("shop.price", 1)
    eventually(lambda: confirmed(executor), "the broker has taken it", WATCHDOG)
    assert not future.done()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"queue": "q" * 256}, ValueError, "queue must have 1 to 255 bytes"),
        ({"queue": 5}, TypeError, "queue must be a string"),
        ({"task_id": 5}, TypeError, "task_id must be a string"),
        ({"countdown": 1e18}, ValueError, "before the year 10000"),
        ({"expires": 1e18}, ValueError, "before the year 10000"),
        ({"soft_timeout": "x"}, TypeError, "soft_timeout must be a number"),
    ],
)
def test_options_that_no_message_can_bear_are_refused(
    executor: mh.ClusterExecutor, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        executor.options(**options)


def test_an_id_is_taken_until_its_task_has_ended(executor: mh.ClusterExecutor) -> None:
    view = executor.options(task_id=uuid4().hex)
    first = view.submit("shop.price", 1)
    with pytest.raises(ValueError, match="has not ended yet"):
        view.submit("shop.price", 2)
    assert executor.statistics()["queued"] == 1
    first.cancel()
    view.submit("shop.price", 3)


def test_the_last_moment_is_one(executor: mh.ClusterExecutor) -> None:
    executor.options(eta=datetime.max).submit("shop.price", 1)
    eventually(lambda: confirmed(executor), "the broker has taken it", WATCHDOG)
