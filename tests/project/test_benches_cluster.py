"""The benchmarks of clusters: each side runs for real, and is compared with what it must return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benches import run
from benches.cluster import WorkerFailed, worker
from benches.contenders import NAMES, contender, of_group
from benches.measure import WrongResult
from benches.measures import MEASURES
from benches.measures.cluster import check_results
from manyhands._cluster.rabbitmq_node import NOT_INSTALLED, find_server

if TYPE_CHECKING:
    from benches.contenders.cluster import Celery

pytestmark = [
    pytest.mark.benches,
    pytest.mark.skipif(find_server() is None, reason=NOT_INSTALLED),
]
CLUSTERS = [name for name, measure in MEASURES.items() if measure.group == "cluster"]


def test_each_benchmark_has_both_sides() -> None:
    for name in CLUSTERS:
        assert run.offered(name, NAMES) == list(of_group("cluster"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", of_group("cluster"))
@pytest.mark.parametrize("benchmark", ["cluster_tasks", "cluster_memory"])
def test_a_short_sample(benchmark: str, name: str) -> None:
    entry = run.taken(0, benchmark, name, 0.02)
    assert entry.error is None
    assert entry.value is not None
    assert entry.value > 0.0


def test_a_wrong_result_is_noticed() -> None:
    class Wrong:
        def run_all(self, numbers: Any) -> list[int]:
            return [0 for _ in numbers]

    wrong: Any = Wrong()
    with pytest.raises(WrongResult, match="not their arguments"):
        check_results(wrong, range(3))


def test_a_worker_that_does_not_consume_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benches.cluster.PATIENCE_S", 5.0)
    library: type[Celery] = contender("celery", "cluster")  # type: ignore[assignment]
    with pytest.raises(WorkerFailed, match="Cannot connect"), worker(library, "amqp://127.0.0.1:1"):
        pass
