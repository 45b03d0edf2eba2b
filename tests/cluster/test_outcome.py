"""What a run of a task comes to, from the bytes of a message to those of an answer."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import manyhands as mh
from manyhands._cluster.outcome import run, run_async


@mh.task
def double(x: int) -> int:
    return 2 * x


@mh.task(name="outcome.later", bind=True, max_retries=1, retry_on=KeyError, retry_delay=5.0)
def later(attempt: mh.Attempt, word: str) -> str:
    if word == "again":
        attempt.retry(ValueError("why"), eta=datetime(2100, 1, 1, tzinfo=UTC))
    if word == "mine":
        attempt.retry(countdown=0)
    raise KeyError(word)


@mh.task
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@mh.task
def slow() -> str:
    try:
        time.sleep(30)
    except mh.SoftTimeLimitExceeded as error:
        return str(error)
    return "done"


def outcome(
    task: mh.Task[..., Any], *args: Any, retries: int = 0, limit: float | None = None
) -> Any:
    """Run a task as a worker does."""
    content = json.dumps([args, {}]).encode()
    return run(task.name, content, "json", limit, ("id", retries))


def test_a_run_comes_to_its_result() -> None:
    assert outcome(double, 21) == ("success", "42")
    assert outcome(wait, 0.0) == ("success", "0.0")
    assert asyncio.run(run_async(wait.name, b"[[0.0],{}]", "json", None, ("id",))) == (
        "success",
        "0.0",
    )
    assert asyncio.run(run_async(double.name, b"[[4],{}]", "json", None, ("id",))) == (
        "success",
        "8",
    )


def test_a_run_comes_to_its_exception() -> None:
    word, kind, arguments, module, text = outcome(double)
    assert (word, kind, module) == ("failure", "TypeError", "builtins")
    assert "missing 1 required" in json.loads(arguments)[0]
    assert text.startswith("TypeError") or "Traceback" in text


def test_a_run_asks_for_another_one() -> None:
    word, at, kind, arguments, _module, _text = outcome(later, "again")
    assert (word, kind, arguments) == ("retry", "ValueError", '["why"]')
    assert at == datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    word, at, kind, *_ = outcome(later, "other")
    assert (word, kind) == ("retry", "KeyError")
    assert 0 < at - time.time() <= 5


def test_the_last_run_raises_what_was_wrong() -> None:
    assert outcome(later, "other", retries=1)[:3] == ("failure", "KeyError", '["other"]')
    assert outcome(later, "again", retries=1)[1] == "ValueError"
    assert outcome(later, "mine", retries=1)[1] == mh.MaxRetriesExceeded.__name__


def test_a_soft_limit_raises_where_signals_can() -> None:
    assert "longer than 0.05 s" in outcome(slow, limit=0.05)[1]
    late = asyncio.run(run_async(wait.name, b"[[30],{}]", "json", 0.05, ("id",)))
    assert late[1] == mh.SoftTimeLimitExceeded.__name__
