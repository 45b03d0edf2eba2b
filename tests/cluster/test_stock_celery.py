"""The fleet that we join, without us: stock producers and workers on the broker of the run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import manyhands as mh
from stock_celery import WATCHDOG, stock_app, stock_worker

ONCE = pytest.mark.once("its processes are Celery's")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--pool=solo",), id="solo"),
        pytest.param(("-c", "2"), id="prefork", marks=ONCE),
    ],
)
def test_a_stock_producer_is_answered_by_a_stock_worker(
    amqp_url: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    queue = f"stock-{uuid4().hex[:8]}"
    with stock_app(amqp_url, queue) as app, stock_worker(tmp_path, amqp_url, queue, *words):
        results = [app.send_task("stock_tasks.add", (n, n)) for n in range(10)]
        assert [each.get(timeout=WATCHDOG) for each in results] == [2 * n for n in range(10)]
        with pytest.raises(ValueError, match="no"):
            app.send_task("stock_tasks.fail", ("no",)).get(timeout=WATCHDOG)


def test_futures_of_stock_workers_are_awaited(amqp_url: str, tmp_path: Path) -> None:
    queue = f"stock-{uuid4().hex[:8]}"

    async def main() -> list[Any]:
        async with mh.ClusterExecutor(amqp_url, queue) as executor:
            calls = (executor.run("stock_tasks.add", n, n) for n in range(10))
            return await asyncio.gather(*calls)

    with stock_worker(tmp_path, amqp_url, queue, "--pool=solo"):
        assert asyncio.run(main()) == [2 * n for n in range(10)]
