"""The tasks of the cluster benchmarks, as an application of Celery."""

from __future__ import annotations

import os

from celery import Celery

from benches.cluster import PREFETCH, WORKERS

app = Celery("benches.cluster_app", broker=os.environ.get("AMQP_URL"), backend="rpc://")
app.conf.update(
    worker_prefetch_multiplier=PREFETCH // WORKERS,
    broker_connection_retry_on_startup=True,
    # They are only asked for what has been made for this run.
    worker_send_task_events=False,
)


@app.task  # type: ignore[untyped-decorator]
def identity(value: int) -> int:
    """Return `value`."""
    return value
