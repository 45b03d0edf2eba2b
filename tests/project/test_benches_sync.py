"""The benchmarks of locks, events and queues: their contenders, and that wrong ones are noticed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from benches import run
from benches.contenders import NAMES, OURS, contender, distribution
from benches.measure import SyncMeasure, WrongResult
from benches.measures import MEASURES
from benches.measures.sync.asynchronous import echo, trips
from benches.measures.sync.locks import CONTENDED_PAIRS, contend
from benches.peer import Peer, PeerFailed
from benches.primitives import Primitives, Queue

if TYPE_CHECKING:
    from benches.contender import Kind

pytestmark = pytest.mark.benches

SYNC = [name for name, measure in MEASURES.items() if measure.group == "sync"]


@pytest.mark.parametrize(
    ("benchmark", "name"), [(each, name) for each in SYNC for name in run.offered(each, NAMES)]
)
def test_a_benchmark_drives_the_library(benchmark: str, name: str) -> None:
    wanted = distribution(name)
    if wanted is not None and importlib.util.find_spec(wanted) is None:
        pytest.skip(f"{wanted} is not installed")
    entry = run.taken(0, benchmark, name, 0.01)
    assert entry.error is None
    assert entry.value is not None
    # The memory of a handful of locks is lost in that of the process, which may also shrink.
    assert entry.value > 0 or benchmark == "locks_memory"


def test_every_benchmark_measures_ours_and_names_are_those_of_pip() -> None:
    for benchmark in SYNC:
        assert run.offered(benchmark, NAMES)[0] == OURS
    assert [distribution(name) for name in ("faster_fifo", "threading")] == ["faster_fifo", None]


class Broken(Primitives):
    """A library whose objects do what they are given instead of what they should."""

    def __init__(self, **made: Any) -> None:
        self._made = made

    def make(self, kind: Kind, *arguments: Any) -> Any:
        return self._made[kind]


def taken(benchmark: str, library: Primitives) -> None:
    measure = MEASURES[benchmark]
    assert isinstance(measure, SyncMeasure)
    measure.run(library, 0.01)


class Open:
    """A lock that lets everybody in."""

    def acquire(self) -> None:
        # Whoever has read the count gives way before he writes it.
        os.sched_yield()

    def release(self) -> None:
        pass

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        pass


def test_a_lock_that_takes_descriptors_is_noticed() -> None:
    class Greedy(Primitives):
        kept: list[int] = []

        def make(self, kind: Kind, *arguments: Any) -> Any:
            self.kept.append(os.dup(2))
            return Open()

    library = Greedy()
    try:
        with pytest.raises(WrongResult, match=r"1000 file descriptors"):
            taken("locks_made", library)
    finally:
        for descriptor in library.kept:
            os.close(descriptor)


def test_a_queue_that_changes_items_is_noticed() -> None:
    made: Any = contender("multiprocessing", "sync")
    queue = made().make("queue")
    broken = Queue(queue.put, lambda: queue.get() + 1)
    with pytest.raises(WrongResult, match="not those put"):
        taken("queue", Broken(queue=broken))


def test_an_answer_of_another_call_is_noticed() -> None:
    late = SimpleNamespace(
        async_put=lambda _: asyncio.sleep(0), async_get=lambda: asyncio.sleep(0, 7)
    )
    with pytest.raises(WrongResult, match="another call"):
        asyncio.run(trips(late, late, 0.01))  # type: ignore[arg-type]


def test_waiting_that_does_not_wait_is_noticed() -> None:
    made: Any = contender("threading", "sync")
    library = made()
    objects = {kind: library.make(kind) for kind in ("lock", "condition", "queue")}
    with pytest.raises(WrongResult, match="did not wait"):
        taken("idle", Broken(event=SimpleNamespace(wait=lambda: None), **objects))
    # The threads that did wait, let go.
    objects["lock"].release()
    objects["queue"].put(0)
    with objects["condition"]:
        objects["condition"].notify_all()


def test_contending_ends_when_it_was_told_to() -> None:
    assert contend(Open(), 0.0, 0.0) == CONTENDED_PAIRS


def test_echo_ends_with_none() -> None:
    items = iter([1, 2, None])
    answers: list[int] = []
    there: Any = SimpleNamespace(get=lambda: next(items))
    back: Any = SimpleNamespace(put=answers.append)
    echo(there, back)
    assert answers == [1, 2]


def test_a_peer_answers_or_tells_what_failed() -> None:
    with Peer(lambda number: 1 // number) as peer:
        peer.tell(1)
        assert peer.answer() == 1
        peer.tell(0)
        with pytest.raises(PeerFailed, match="ZeroDivisionError"):
            peer.answer()
        pid = peer.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
