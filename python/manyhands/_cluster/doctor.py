"""`manyhands doctor`: what a broker is, and what on it would be in the way of tasks."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final, Literal

from manyhands import _native
from manyhands._cluster.broker_url import broker_url
from manyhands._errors.cluster import BrokerError

__all__ = ["Finding", "brokers_limits", "queue_findings", "run"]

PATIENCE_S: Final = 10.0
# A task ends before its message is acknowledged: so much must be left.
MARGIN_S: Final = 300.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    verdict: Literal["ok", "note", "wrong"]
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<6}{self.text}"


def run(
    broker: str | None, broker_file: str | None, queues: list[str], time_limit: float | None
) -> int:
    """Print what is found; return the exit status.

    Args:
        broker: its URL.
        broker_file: a file that has it.
        queues: their names.
        time_limit: the longest that a task may take, in seconds.

    Raises:
        BrokerError: there is no broker, or it does not let us in.
    """
    url = broker_url(broker, broker_file)
    began = time.monotonic()
    try:
        greeting = _native.ClusterVisit.greeting(url, PATIENCE_S)
        visit = _native.ClusterVisit(url, f"manyhands doctor {os.getpid()}", PATIENCE_S)
    except (ValueError, ConnectionError) as error:
        raise BrokerError(str(error)) from None
    took_ms = (time.monotonic() - began) * 1000
    findings = [
        Finding("ok", f"{visit.address}: {greeting}"),
        Finding("ok", f"logged in within {took_ms:.0f} ms"),
        *brokers_limits(greeting.consumer_timeout, greeting.has_transient_queues, time_limit),
    ]
    try:
        for name in queues:
            findings += queue_findings(visit, name)
    finally:
        visit.end()
    for finding in findings:
        print(finding)
    return int(any(finding.verdict == "wrong" for finding in findings))


def brokers_limits(
    consumer_timeout: int | None, has_transient_queues: bool, time_limit: float | None
) -> list[Finding]:
    """Return what a broker does not allow by default.

    Args:
        consumer_timeout: how long a worker may hold a message, in seconds; None: any time.
        has_transient_queues: whether there are queues that are neither durable nor exclusive.
        time_limit: how long a task may take.

    Example:
        >>> print(*brokers_limits(1800, True, 60.0))
        ok    tasks of 60 s are within its consumer_timeout, by default of 1800 s
    """
    found = []
    if time_limit is not None and consumer_timeout is not None:
        limit = f"its consumer_timeout, by default of {consumer_timeout} s"
        if time_limit > consumer_timeout - MARGIN_S:
            text = (
                f"tasks of {time_limit:g} s are too near to, or beyond {limit}: it closes the "
                "worker's channel and delivers them again; raise consumer_timeout in rabbitmq.conf"
            )
            found.append(Finding("wrong", text))
        else:
            found.append(Finding("ok", f"tasks of {time_limit:g} s are within {limit}"))
    if not has_transient_queues:
        text = (
            "it refuses (541) the result queues of Celery before 5.7 with rpc://: update these, or "
            "set deprecated_features.permit.transient_nonexcl_queues = true"
        )
        found.append(Finding("note", text))
    return found


def queue_findings(visit: _native.ClusterVisit, name: str) -> list[Finding]:
    """Look at a queue, and whether those who declare it get it."""
    try:
        messages, consumers = visit.depth(name)
    except ConnectionError as error:
        if "NOT_FOUND" in str(error):
            return [Finding("note", f"queue {name}: there is none; the first program makes it")]
        return [Finding("wrong", f"queue {name}: {error}")]
    found = [Finding("ok", f"queue {name}: {messages} messages wait, {consumers} consumers")]
    if messages and not consumers:
        found.append(Finding("note", f"queue {name}: nobody consumes from it"))
    try:
        visit.declare(name, is_quorum=False)
    except ConnectionError as refusal:
        found.append(_difference(visit, name, str(refusal)))
    return found


def _difference(visit: _native.ClusterVisit, name: str, refusal: str) -> Finding:
    try:
        visit.declare(name, is_quorum=True)
    except ConnectionError:
        what = "programs that declare it as Celery does by default are refused"
        how = "have them declare it as it is, or delete it when it is empty"
        return Finding("wrong", f"queue {name}: {what}: {refusal}; {how}")
    how = "Celery's programs need task_default_queue_type = 'quorum', or are refused (406)"
    return Finding("note", f"queue {name}: a quorum queue; {how}")
