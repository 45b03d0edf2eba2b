"""Tasks that raise and return what is hard to tell: each future ends, and workers go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import manyhands as mh
from manyhands._cluster.signature import Signature
from task_worker import MODULE, WATCHDOG, task_worker

TASKS = """
import asyncio
import manyhands as mh

@mh.task
def add(x, y):
    return x + y

@mh.task
def name_a_file():
    raise OSError("no file caf\\udce9")

@mh.task
def run_dry():
    next(iter(()))

@mh.task
def cancelled():
    raise asyncio.CancelledError

@mh.task
async def await_cancelled():
    inner = asyncio.ensure_future(asyncio.sleep(60))
    inner.cancel()
    await inner

@mh.task
def pretend(kind):
    return {"__type__": kind, "__value__": "x"}

@mh.task
def fail_with(argument):
    raise ValueError({"__type__": "nothing", "__value__": argument})
"""
KINDS = ("process:2", "thread:2", "coroutine:2")


@pytest.fixture(scope="module", params=KINDS)
def executor(
    request: pytest.FixtureRequest, amqp_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[mh.ClusterExecutor]:
    folder, queue = tmp_path_factory.mktemp("odd"), f"odd-{uuid4().hex[:8]}"
    with (
        task_worker(folder, amqp_url, queue, "--workers", request.param, text=TASKS),
        mh.ClusterExecutor(amqp_url, queue) as executor,
    ):
        yield executor


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        ("name_a_file", OSError, r"no file caf\udce9"),
        ("run_dry", StopIteration, "^$"),
        ("cancelled", mh.RemoteError, "CancelledError"),
        ("await_cancelled", mh.RemoteError, "CancelledError"),
    ],
)
def test_what_a_task_raises_comes_back(
    executor: mh.ClusterExecutor, task: str, kind: type[BaseException], words: str
) -> None:
    # More than there are slots: none of them stays occupied.
    futures = [executor.submit(f"{MODULE}.{task}") for _ in range(4)]
    for future in futures:
        with pytest.raises(kind, match=words):
            future.result(WATCHDOG)
    assert executor.submit(f"{MODULE}.add", 1, 2).result(WATCHDOG) == 3


def test_an_answer_that_cannot_be_read_fails_its_own_future_only(
    executor: mh.ClusterExecutor,
) -> None:
    kinds: list[Any] = ["decimal", "uuid", "nothing", []]
    odd = [executor.submit(f"{MODULE}.pretend", kind) for kind in kinds]
    odd.append(executor.submit(f"{MODULE}.fail_with", 1))
    plain = [executor.submit(f"{MODULE}.add", n, 1) for n in range(50)]
    for future in odd:
        with pytest.raises(mh.ManyhandsError, match="cannot be read"):
            future.result(WATCHDOG)
    assert [future.result(WATCHDOG) for future in plain] == list(range(1, 51))


def test_a_done_callback_cannot_wait_for_the_end(executor: mh.ClusterExecutor) -> None:
    raised: list[BaseException] = []
    done = threading.Event()

    def shut_down(_future: Any) -> None:
        try:
            executor.shutdown()
        except BaseException as error:
            raised.append(error)
        done.set()

    future = executor.options(countdown=0.5).submit(f"{MODULE}.add", 1, 2)
    future.add_done_callback(shut_down)
    assert done.wait(WATCHDOG)
    assert "use shutdown(wait=False)" in str(raised[0])
    assert executor.submit(f"{MODULE}.add", 1, 2).result(WATCHDOG) == 3


def test_what_follows_may_name_a_queue_that_cannot_be(executor: mh.ClusterExecutor) -> None:
    first = Signature(f"{MODULE}.add", (1, 2))
    future = executor.send_chain(first | Signature(f"{MODULE}.add", (1,), {}, {"queue": "q" * 256}))
    assert executor.submit(f"{MODULE}.add", 1, 2).result(WATCHDOG) == 3
    future.cancel()


def test_a_queue_whose_dead_letters_can_have_none_is_refused(tmp_path: Path, amqp_url: str) -> None:
    with (
        pytest.raises(AssertionError, match="at most 250 bytes"),
        task_worker(tmp_path, amqp_url, "q" * 251, text=TASKS),
    ):
        pass
