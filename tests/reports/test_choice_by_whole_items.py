"""``workers="auto"`` judges by whole items, also where they wait first and compute then.

Found in use: judged by its first milliseconds, a download that is then parsed looks like waiting,
and goes to many threads under one GIL, each of which holds what it has downloaded.
"""

from __future__ import annotations

import collections
import mmap
import os
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import manyhands as mh
from manyhands._map import auto, pilot
from manyhands._map.choice import (
    FREE_SPEEDUP,
    Choice,
    Measurements,
    Resources,
    at_once,
    better,
    choose,
    predict,
    threads_for,
)
from manyhands._map.course import Course
from manyhands._map.crowd import Crowd, Seen, crowd_size
from manyhands._map.gil_probe import GilProbe
from manyhands._map.meter import Spent
from manyhands._map.pilot import Pilot
from manyhands._map.tally import Tally
from manyhands._pool.process import default_workers
from manyhands._task.chunk import Cost
from manyhands._worker.interpreter import has_gil

if TYPE_CHECKING:
    from collections.abc import Callable

needs_two_cpus = pytest.mark.skipif(
    default_workers() < 2, reason="with one CPU, computing items rightly stay in the caller"
)
TWO_CPUS = Resources(cpus=2, thread_workers=32, process_workers=2, process_start=0.08)


def compute(seconds: float) -> int:
    """Compute under the GIL for so many seconds of CPU time."""
    total = 0
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for each in range(2000):
            total += each
    return total


def compute_briefly(number: int) -> int:
    compute(0.012)
    return number


def wait_then_compute(number: int) -> int:
    time.sleep(0.03)
    compute(0.1)
    return number


class Together:
    """Counts how many run at once; holds `size` bytes while it waits, and computes then."""

    def __init__(self, size: int, wait: float, work: float) -> None:
        self.size, self.wait, self.work = size, wait, work
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, number: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        with mmap.mmap(-1, self.size) as held:
            for page in range(0, self.size, mmap.PAGESIZE):
                held[page] = 1
            time.sleep(self.wait)
            compute(self.work)
        with self.lock:
            self.now -= 1
        return number


@needs_two_cpus
@pytest.mark.parametrize("lazily", [False, True])
def test_items_that_wait_and_then_compute_go_to_processes(lazily: bool) -> None:
    mh.shared_pool().submit(int).result()
    expected = list(range(16))
    if lazily:
        assert list(mh.imap(wait_then_compute, range(16))) == expected
    else:
        assert mh.map(wait_then_compute, range(16)) == expected
    choice = mh.last_choice()
    assert choice is not None
    assert choice.measurements.cpu_seconds > 0.01
    assert choice.measurements.waiting < 0.5
    # Where others want the CPUs, threads are about as good; without a GIL they are better.
    best = "process" if has_gil() else "thread"
    assert choice.kind == best or choice.others > 1, choice


def test_what_computes_later_is_not_begun_on_every_thread() -> None:
    job = Together(1 << 20, wait=0.03, work=0.05)
    assert mh.map(job, range(40)) == list(range(40))
    choice = mh.last_choice()
    assert choice is not None
    # More of those that hold no GIL get more of the CPUs where others want them.
    assert job.most <= (12 if has_gil() else 12 + 4 * choice.others)


def test_items_under_way_share_the_memory_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 10 << 20
    monkeypatch.setattr(pilot, "spare", lambda: 3.5 * size / pilot.MEMORY_SHARE)
    job = Together(size, wait=0.2, work=0.0)
    assert mh.map(job, range(12)) == list(range(12))
    assert 2 <= job.most <= 4
    choice = mh.last_choice()
    assert choice is not None
    assert choice.measurements.memory_bytes > size / 2


def test_long_items_that_only_wait_run_side_by_side() -> None:
    job = Together(mmap.PAGESIZE, wait=0.5, work=0.0)
    assert mh.map(job, range(24)) == list(range(24))
    assert job.most >= 12


# --- what is decided, by what was measured ------------------------------------------------------


def test_a_crowd_grows_with_the_time_that_it_waits() -> None:
    sizes = [crowd_size(waited / 1e3, 1000, 2, 32) for waited in range(0, 300, 10)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 32)


def test_a_crowd_leaves_processes_their_part_until_it_is_sure() -> None:
    assert crowd_size(0.05, 16, 2, 32) == 8
    assert crowd_size(0.05, 16, 4, 32) == 4
    assert crowd_size(0.2, 16, 4, 16) == 16
    assert crowd_size(0.2, None, 4, 5) == 5


def seen(*spent: tuple[float, float, float]) -> list[Seen]:
    """Wall, CPU and queueing of items, in milliseconds, since each of them began."""
    return [
        Seen(who, Spent(wall / 1e3, cpu / 1e3, queued / 1e3))
        for who, (wall, cpu, queued) in enumerate(spent)
    ]


def crowd(*looks: tuple[float, list[Seen]]) -> Crowd:
    watched = Crowd(0.0, 0)
    for at, items in looks:
        watched.learn(at / 1e3, items)
    return watched


def test_what_an_item_waits_for_the_gil_is_not_its_own() -> None:
    # The first waited for 30 ms, then all three computed by turns.
    watched = crowd(
        (20, seen((20, 0, 0))),
        (30, seen((30, 0, 0), (10, 0, 0), (10, 0, 0))),
        (60, seen((60, 20, 0), (40, 5, 0), (40, 5, 0))),
        (160, seen((160, 60, 0), (140, 35, 0), (140, 35, 0))),
    )
    assert watched.computing
    assert watched.waited == pytest.approx(0.03)
    assert watched.spent(0) == pytest.approx((0.09, 0.06))
    own, cpu = watched.whole({0: 1})  # type: ignore[dict-item]
    assert (own, cpu) == pytest.approx((0.09, 0.06))


def test_queueing_for_a_cpu_is_computing() -> None:
    # On a machine where others have four fifths of the CPUs.
    assert crowd((20, seen((20, 4, 16)))).computing
    starved = crowd((20, [Seen(0, Spent(0.02, 0.001, 0.0), settled=False)]))
    assert starved.computing
    assert not crowd((20, seen((20, 0.5, 2)))).computing


@pytest.mark.parametrize(
    ("cpu", "threads"), [(0.0, 32), (0.05, 32), (0.35, 8), (0.5, 6), (0.9, 3), (1.0, 3)]
)
def test_threads_are_as_many_as_the_waiting_needs(cpu: float, threads: int) -> None:
    assert threads_for(Measurements(1, 1.0, cpu), TWO_CPUS) == threads


@pytest.mark.parametrize(
    ("others", "speedup", "threads"),
    [(1.0, 2.0, 3), (2.0, 2.0, 10), (8.0, 2.0, 32), (8.0, 1.0, 6), (8.0, None, 6)],
)
def test_threads_on_a_busy_machine_are_more(
    others: float, speedup: float | None, threads: int
) -> None:
    """Beside others, each more gets a greater part of the CPUs, unless they wait for the GIL."""
    have = replace(TWO_CPUS, others=others)
    computes = Measurements(1, 0.01, 0.01, thread_speedup=speedup)
    assert threads_for(computes, have) == threads


def test_memory_bounds_threads_and_processes() -> None:
    have = Resources(4, 32, 4, 0.08, memory=1e9)
    waits = Measurements(1, 1.0, 0.0, memory_bytes=3e8)
    assert threads_for(waits, have) == 3
    assert predict(waits, 9, have)["thread"] == pytest.approx(3.0, abs=0.01)
    computes = Measurements(1, 1.0, 1.0, payload_seconds=1e-4, memory_bytes=4e8)
    # Two at a time; until processes have started, the caller could do no whole one.
    assert predict(computes, 8, have)["process"] == pytest.approx(4.08, abs=0.01)
    assert at_once(4, 1e12, have) == 1


def test_a_whole_item_under_the_gil_is_cheaper_by_processes() -> None:
    # 30 ms of waiting, then 200 ms under the GIL.
    work = Measurements(1, 0.23, 0.2, thread_speedup=1.0, payload_seconds=1e-4)
    predicted = predict(work, 15, TWO_CPUS)
    assert predicted["process"] < 0.8 * predicted["thread"] < predicted["sequential"]


# --- reconsidered as items end ------------------------------------------------------------------


class Logged:
    """Computes, writes down which item it had, and picklable: a line is one write to a file."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds

    def __call__(self, number: int) -> int:
        compute(self.seconds)
        with self.path.open("ab", buffering=0) as log:
            log.write(b"%d\n" % number)
        return number

    def numbers(self) -> list[int]:
        return sorted(map(int, self.path.read_text().split()))


@pytest.mark.parametrize("lazily", [False, True])
def test_each_item_runs_once_while_processes_start(tmp_path: Path, lazily: bool) -> None:
    job = Logged(tmp_path / "log", 0.004)
    numbers = list(range(200))
    assert (list(mh.imap(job, numbers)) if lazily else mh.map(job, numbers)) == numbers
    assert job.numbers() == numbers


def compute_then_wait(number: int) -> int:
    if number < 20:
        compute(0.005)
    else:
        time.sleep(0.03)
    return number


@pytest.mark.parametrize("ordered", [True, False])
def test_items_that_begin_to_wait_move_to_threads(ordered: bool) -> None:
    mh.shared_pool().submit(int).result()
    assert sorted(mh.imap(compute_then_wait, range(300), ordered=ordered)) == list(range(300))
    choice = mh.last_choice()
    assert choice is not None
    assert choice.kind == "thread"


def fails_in_processes(number: int) -> int:
    if os.getpid() != PARENT:
        raise OSError("not here")
    compute(0.01)
    return number


PARENT = os.getpid()


def test_work_that_is_over_before_processes_have_started_needs_none() -> None:
    """As much as the caller does in the time of their start: nothing is sent to them."""
    assert mh.map(fails_in_processes, range(6)) == list(range(6))
    choice = mh.last_choice()
    assert choice is not None
    assert choice.kind != "process"


BUSY = Resources(cpus=2, thread_workers=32, process_workers=2, process_start=0.08, others=8.0)


def test_others_leave_a_part_of_the_cpus() -> None:
    assert TWO_CPUS.computed(1) == 1.0
    assert BUSY.computed(1) == pytest.approx(0.2, rel=0.1)
    assert BUSY.computed(2) == pytest.approx(0.4)
    assert not TWO_CPUS.is_busy
    assert not Resources(2, 32, 2, 0.08, others=1.0).is_busy
    assert BUSY.is_busy


def test_waiting_takes_no_longer_on_a_busy_machine() -> None:
    waits = Measurements(1, 0.1, 0.0)
    assert predict(waits, 10, BUSY) == pytest.approx(predict(waits, 10, TWO_CPUS))
    computes = Measurements(1, 0.1, 0.1)
    assert predict(computes, 10, BUSY)["sequential"] == pytest.approx(5.0, rel=0.1)


def test_a_choice_says_that_the_machine_is_busy() -> None:
    computes = Measurements(3, 0.01, 0.01, thread_speedup=1.0, payload_seconds=1e-5)
    busy = choose(computes, 1000, BUSY)
    assert busy.reason.endswith("; the machine is busy: 8 other threads compete for its 2 CPUs")
    assert busy.others == 8.0
    assert "busy" not in choose(computes, 1000, TWO_CPUS).reason


@pytest.mark.parametrize(("count", "kind"), [(20, "thread"), (60, "thread"), (3000, "process")])
def test_on_a_busy_machine_threads_do_what_is_over_before_processes_have_started(
    count: int, kind: str
) -> None:
    computes = Measurements(3, 0.005, 0.005, thread_speedup=1.0, payload_seconds=1e-5)
    assert choose(computes, count, BUSY).kind == kind


def test_on_a_busy_machine_no_process_starts_before_threads_have_shown_what_they_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pilot, "runnable_others", lambda *_: 4.0)
    monkeypatch.setattr(Pilot, "_probed", lambda *_: None)  # nobody can tell beforehand
    mh.shared_pool(workers="process").shutdown()
    looks: list[float | None] = []
    starts: list[float | None] = []

    class Watched(Course[int]):
        def _begin_processes(self) -> bool:
            starts.append(looks[-1])
            return super()._begin_processes()

        def _known(self) -> Measurements:
            looks.append(None if len(looks) < 5 else 1.0)
            known = replace(super()._known(), item_seconds=0.01, cpu_seconds=0.01)
            return replace(known, thread_speedup=looks[-1])

    monkeypatch.setattr(auto, "Course", Watched)
    monkeypatch.setattr(auto, "_cold_start", lambda: 0.001)
    assert len(mh.map(compute, [0.01] * 100)) == 100
    assert looks[:5] == [None] * 5
    assert set(starts) == {1.0}


def test_probes_say_as_much_as_they_have_seen() -> None:
    probe = GilProbe()
    probe.learn(0.0, computing=False)  # it waits, or has ended: that says nothing
    assert probe.speedup is None
    for _ in range(2):
        probe.learn(0.005, computing=True)
    assert not probe.is_clear
    probe.learn(0.005, computing=False)  # as soon as it had to release the GIL, it slept
    assert probe.is_clear
    assert probe.speedup == 1.0
    for _ in range(3):
        assert probe.is_clear == (probe.tries == 3)
        probe.learn(0.0, computing=True)
    assert probe.is_clear
    assert probe.speedup == 2.0


def squeeze(_: int) -> int:
    """Compute without the GIL."""
    return sum(len(zlib.compress(TEXT, 9)) for _ in range(2))


TEXT = os.urandom(500_000)


@pytest.mark.skipif(not has_gil(), reason="there is no GIL to hold")
@pytest.mark.parametrize(("item", "free"), [(compute_briefly, False), (squeeze, True)])
def test_on_a_busy_machine_one_item_shows_whether_it_holds_the_gil(
    item: Callable[[int], int], free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pilot, "runnable_others", lambda *_: 4.0)
    mh.shared_pool(workers="process").shutdown()
    assert len(mh.map(item, range(100))) == 100
    choice = mh.last_choice()
    assert choice is not None
    found = choice.measurements.thread_speedup
    assert found is not None
    assert (found >= FREE_SPEEDUP) == free
    assert found <= 1.3 or free
    assert choice.kind == "thread" or not free


def test_tiny_items_stay_in_the_caller_on_a_busy_machine() -> None:
    # Competition for the caches makes them seem longer than they are.
    for seconds in (4e-8, 2e-7):
        tiny = Measurements(1000, seconds, seconds, payload_seconds=1e-7)
        assert choose(tiny, 1_000_000, BUSY).kind == "sequential"


@pytest.mark.parametrize("others", [0.0, 8.0])
def test_tiny_items_are_not_tried_on_threads(
    monkeypatch: pytest.MonkeyPatch, others: float
) -> None:
    tried: list[Measurements] = []
    for name in ("_probed", "_try_two"):
        monkeypatch.setattr(Pilot, name, lambda _, measured, *more: tried.append(measured))
    monkeypatch.setattr(Pilot, "_count_others", lambda _: None)
    have = auto._resources
    monkeypatch.setattr(
        auto, "_resources", lambda work: replace(have(work), others=others, gil=True)
    )
    assert mh.map(abs, range(-1_000_000, 0)) == list(range(1_000_000, 0, -1))
    assert not tried
    mh.map(lambda _: compute(0.002), range(40))
    assert len(tried) == 1


@pytest.mark.parametrize("milliseconds", [1, 5, 20, 79])
def test_no_pool_starts_for_what_the_caller_does_meanwhile(milliseconds: int) -> None:
    each = milliseconds / 1e3
    computes = Measurements(3, each, each, thread_speedup=1.0, payload_seconds=1e-6)
    for have in (TWO_CPUS, BUSY):
        assert choose(computes, 80 // milliseconds, have).kind != "process"


def test_what_threads_have_begun_with_need_not_go_to_processes() -> None:
    """Three long items on two CPUs: processes do two of them while the thread ends the first."""
    have = replace(TWO_CPUS, process_start=0.13)
    long = Measurements(1, 0.2, 0.2, payload_seconds=1e-5)
    assert predict(long, 3, have)["process"] > 0.48
    begun = replace(long, under_way=1)
    assert predict(begun, 3, have)["process"] == pytest.approx(0.37, abs=0.02)
    assert choose(begun, 3, have).kind == "process"
    assert choose(begun, 1, have).kind == "sequential"


def test_costs_that_have_grown_are_taken_to_grow_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tiny at first and dear afterwards is surveyed twice, the caller having begun."""
    surveys: list[tuple[int, Choice]] = []

    class Watched(Pilot[int]):
        def _is_tiny(self, item_seconds: float) -> bool:
            return not surveys or super()._is_tiny(item_seconds)

        def survey(self) -> Choice | None:
            chosen = super().survey()
            assert chosen is not None
            if not surveys:
                # Whatever else the machine was doing: that is what they are.
                tiny = replace(chosen.measurements, item_seconds=1e-6, cpu_seconds=1e-6)
                chosen = replace(chosen, kind="sequential", measurements=tiny)
            surveys.append((self._growth, chosen))
            return chosen

    monkeypatch.setattr(auto, "Pilot", Watched)
    mh.map(lambda seconds: seconds and compute(seconds), [0.0] * 300 + [0.005] * 40)
    assert [growth for growth, _ in surveys[:2]] == [1, 2]
    assert surveys[1][1].measurements.predicted["sequential"] > 2 * 10 * 0.005


@pytest.mark.parametrize("lazily", [False, True], ids=["map", "imap"])
def test_dear_items_after_tiny_ones_do_not_stay_in_the_caller(
    lazily: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However seldom the clock is looked at, what it misses is a small part of all items."""
    survey = Pilot.survey

    def surveyed(pilot: Pilot[None]) -> Choice | None:
        chosen = survey(pilot)
        if chosen is None or pilot._growth > 1:
            return chosen
        tiny = replace(chosen.measurements, item_seconds=1e-6, cpu_seconds=1e-6)
        return replace(chosen, kind="sequential", measurements=tiny)

    monkeypatch.setattr(Pilot, "_is_tiny", lambda pilot, seconds: pilot._growth == 1)
    monkeypatch.setattr(Pilot, "survey", surveyed)
    callers: list[int] = []

    def run(seconds: float) -> None:
        if seconds:
            callers.append(threading.get_ident())
            time.sleep(seconds)

    items = [0.0] * 1000 + [0.02] * 60
    if lazily:
        collections.deque(mh.imap(run, items), 0)
    else:
        mh.map(run, items)
    assert len(callers) == 60
    assert callers.count(threading.get_ident()) <= 1000 / 64 + 1


@needs_two_cpus
def test_an_item_without_a_cpu_at_the_first_look_is_tried_at_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[object] = []
    so_far = Pilot._so_far

    def starved(pilot: Pilot[int], *seen: Any) -> tuple[float, float]:
        looks.append(seen)
        return (0.0, 0.0) if len(looks) == 1 else so_far(pilot, *seen)

    monkeypatch.setattr(Pilot, "_so_far", starved)
    mh.map(compute, [0.3] * 4)  # longer than it may take to get a CPU for a look
    chosen = mh.last_choice()
    assert looks
    assert chosen is not None
    assert chosen.measurements.payload_seconds is not None


class Large:
    """Takes long to be pickled, and counts how often that was done."""

    pickled = 0

    def __reduce__(self) -> tuple[type[Large], tuple[()]]:
        Large.pickled += 1
        compute(0.003)
        return (Large, ())


def test_a_large_result_is_pickled_once_to_see_what_that_costs() -> None:
    Large.pickled = 0
    results = mh.map(lambda _: [compute(0.0005), Large()][1], range(100))
    assert len(results) == 100
    assert Large.pickled == 1


def test_work_stays_where_it_is_unless_it_is_clearly_better_elsewhere() -> None:
    waits = Measurements(9, 0.03, 0.001, payload_seconds=1e-5)
    started = replace(TWO_CPUS, process_start=0.0)
    assert better("process", waits, 100, started) == "thread"
    assert better("process", waits, 1, started) == "process"
    computes = Measurements(9, 0.01, 0.01, thread_speedup=1.0, payload_seconds=1e-5)
    assert better("thread", computes, 200, TWO_CPUS) == "process"
    assert better("thread", computes, 3, TWO_CPUS) == "thread"
    assert better("thread", replace(computes, unpicklable="no"), 200, TWO_CPUS) == "thread"
    free = replace(computes, thread_speedup=2.0)
    assert better("thread", free, 200, TWO_CPUS) == "thread"
    assert better("process", free, 200, started) == "process"


def test_a_tally_forgets_what_items_cost_long_ago() -> None:
    tally = Tally(0.06, 0.0)
    for number in range(80):
        seconds = 0.06 * 0.9**number
        tally.learn(1, Cost.of(seconds, seconds, 0.0, 0.0))
    assert tally.cpu < 0.001
    assert tally.wait < 1e-9


@pytest.mark.parametrize(
    ("wall", "cpu", "queued", "beside", "threads", "speedup", "wait"),
    [
        # Milliseconds of a piece. Two under the GIL, and two without it.
        (20, 10, 0, 10, 2, 1.0, 0),
        (10, 10, 0, 10, 2, 2.0, 0),
        # Six under the GIL on a busy machine; six without it, which queue instead.
        (300, 10, 45, 50, 6, 1.0, 0),
        (50, 10, 39, 50, 6, 2.0, 0),
        # Three that take turns, and have queued as they were given the GIL: who knows. Three that
        # have had two CPUs did not.
        (22, 6, 10, 8, 3, None, 0),
        (22, 6, 10, 28, 3, 1.5, 0),
        # They wait for most of their time: nobody holds up anybody.
        (100, 5, 0, 5, 2, None, 95),
        # One thread, held up by the pilot's; on a busy machine these queue for the CPUs, too.
        (30, 10, 0, 20, 1, None, 0),
        (60, 10, 10, 20, 1, None, 0),
        # One that waits by itself, beside a caller that does little.
        (30, 10, 0, 1, 1, None, 19),
        (30, 10, 0, 0, 1, None, 20),
    ],
)
def test_what_threads_show_as_they_go_on(
    wall: float,
    cpu: float,
    queued: float,
    beside: float,
    threads: int,
    speedup: float | None,
    wait: float,
) -> None:
    tally = Tally(cpu / 1e3, 0.0)
    for _ in range(20):
        tally.learn(1, Cost.of(wall / 1e3, cpu / 1e3, queued / 1e3, beside / 1e3), threads)
    assert tally.speedup(threads) == (
        speedup if speedup is None else pytest.approx(speedup, abs=0.1)
    )
    assert tally.wait == pytest.approx(wait / 1e3, rel=0.1, abs=1e-4)
