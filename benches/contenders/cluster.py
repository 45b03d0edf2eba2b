"""Tasks on RabbitMQ: ours, and Celery."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, ClassVar

from benches.cluster import PREFETCH, WORKERS, ClusterContender

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benches.contender import Kind

# What a result may take.
PATIENCE_S = 60.0


class Manyhands(ClusterContender):
    """`ClusterExecutor`, and `manyhands worker` with processes."""

    distribution = "manyhands"
    labels: ClassVar[dict[Kind, str]] = {"cluster": "manyhands"}
    usage: ClassVar[Mapping[str, str]] = {
        "worker": f"`manyhands worker module --workers process:{WORKERS}`",
        "results": "`executor.submit(identity, n)`, then `result()` of each",
        "publish": "`executor.options(ignore_result=True).submit(identity, n)`, which is done once "
        "the broker has confirmed it",
    }
    command = ("manyhands", "worker", "benches.cluster_tasks", "--workers", f"process:{WORKERS}")
    ready = "consumes"

    def start(self) -> None:
        """Connect."""
        import manyhands

        self._identity: Any = importlib.import_module("benches.cluster_tasks").identity
        self._executor: Any = manyhands.ClusterExecutor(self.url)

    def stop(self) -> None:
        """Disconnect."""
        self._executor.shutdown()

    def run_all(self, numbers: Sequence[int]) -> list[int]:
        """Send all, then collect all."""
        futures = [self._executor.submit(self._identity, number) for number in numbers]
        return [future.result(PATIENCE_S) for future in futures]

    def call(self, number: int) -> int:
        """Send one, and wait for it."""
        result: int = self._executor.submit(self._identity, number).result(PATIENCE_S)
        return result

    def publish(self, numbers: Sequence[int]) -> None:
        """Send all, and wait for the broker's confirms."""
        sender = self._executor.options(ignore_result=True)
        for future in [sender.submit(self._identity, number) for number in numbers]:
            future.result(PATIENCE_S)


class Celery(ClusterContender):
    """A task's `delay`, and `celery worker` with its prefork pool."""

    distribution = "celery"
    labels: ClassVar[dict[Kind, str]] = {"cluster": "Celery"}
    usage: ClassVar[Mapping[str, str]] = {
        "worker": f"`celery -A app worker -c {WORKERS}`, `rpc://`, "
        f"`worker_prefetch_multiplier = {PREFETCH // WORKERS}`",
        "results": "`identity.delay(n)`, then `get()` of each",
        "publish": "`identity.apply_async((n,), ignore_result=True)`, which confirms nothing",
    }
    command = (
        *("celery", "-A", "benches.cluster_app", "worker"),
        *("-c", str(WORKERS), "--loglevel", "INFO"),
    )
    ready = " ready."

    def start(self) -> None:
        """Import the application, which connects when it first sends."""
        os.environ["AMQP_URL"] = self.url
        self._app = importlib.import_module("benches.cluster_app")

    def stop(self) -> None:
        """Disconnect."""
        self._app.app.close()

    def run_all(self, numbers: Sequence[int]) -> list[int]:
        """Send all, then collect all."""
        results = [self._app.identity.delay(number) for number in numbers]
        return [result.get(timeout=PATIENCE_S) for result in results]

    def call(self, number: int) -> int:
        """Send one, and wait for it."""
        result: int = self._app.identity.delay(number).get(timeout=PATIENCE_S)
        return result

    def publish(self, numbers: Sequence[int]) -> None:
        """Send all; the broker confirms none."""
        for number in numbers:
            self._app.identity.apply_async((number,), ignore_result=True)
