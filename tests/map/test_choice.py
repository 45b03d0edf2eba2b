"""What ``workers="auto"`` chooses: the arithmetic first, then real work."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manyhands as mh
from manyhands._map import auto
from manyhands._map.choice import Choice, Measurements, Resources, choose, predict
from manyhands._map.meter import Meter, Overlap, Pair, Reading, overlap
from manyhands._map.piece import metered_call, metered_piece
from manyhands._map.pilot import judge
from manyhands._pool.process import default_workers
from manyhands._worker.interpreter import has_gil

TWO_CPUS = Resources(cpus=2, thread_workers=32, process_workers=2, process_start=0.08)


def choice(remaining: int | None, have: Resources = TWO_CPUS, **measured: Any) -> Choice:
    return choose(Measurements(items=10, **measured), remaining, have)


# --- the arithmetic -----------------------------------------------------------------------------


def test_waiting_goes_to_threads() -> None:
    chosen = choice(100, item_seconds=0.02, cpu_seconds=0.0002)
    assert chosen.kind == "thread"
    assert chosen.reason == "items wait for 99% of their 20 ms: 32 threads"


def test_computing_under_the_gil_goes_to_processes() -> None:
    chosen = choice(
        1000, item_seconds=0.005, cpu_seconds=0.005, thread_speedup=1.0,
        payload_bytes=300, payload_seconds=1e-5,
    )  # fmt: skip
    assert chosen.kind == "process"
    assert chosen.reason == ("items compute 5 ms each under the GIL (2 threads: 1.0×)")


def test_computing_without_a_gil_goes_to_threads() -> None:
    free = replace(TWO_CPUS, gil=False)
    work: dict[str, Any] = {"item_seconds": 0.005, "cpu_seconds": 0.005, "payload_seconds": 1e-5}
    chosen = choice(1000, free, **work)
    assert chosen.kind == "thread"
    assert chosen.reason == "items compute 5 ms each, and this Python has no GIL"
    # Unless they were seen to hold each other up by something else.
    chosen = choice(1000, free, **work, thread_speedup=1.0)
    assert chosen.kind == "process"
    assert chosen.reason == (
        "items compute 5 ms each, and hold each other up as threads (2 threads: 1.0×)"
    )


def test_a_choice_does_not_claim_what_was_not_found_out() -> None:
    work: dict[str, Any] = {"item_seconds": 0.005, "cpu_seconds": 0.005, "payload_seconds": 1e-5}
    chosen = choice(1000, **work)
    assert chosen.kind == "process"
    assert chosen.reason == "items compute 5 ms each, perhaps under the GIL"
    chosen = choice(1000, **work, thread_speedup=1.5)
    assert chosen.kind == "process"
    assert chosen.reason == "items compute 5 ms each, in part under the GIL (2 threads: 1.5×)"


def test_computing_without_the_gil_goes_to_threads() -> None:
    chosen = choice(
        1000, item_seconds=0.005, cpu_seconds=0.005, thread_speedup=1.9,
        payload_bytes=300_000, payload_seconds=1e-4,
    )  # fmt: skip
    assert chosen.kind == "thread"
    assert "without the GIL (2 threads: 1.9×)" in chosen.reason


def test_little_work_stays_in_the_caller() -> None:
    chosen = choice(100, item_seconds=1e-6, cpu_seconds=1e-6)
    assert chosen.kind == "sequential"
    assert chosen.reason == "items take 1 µs each: too little in all to share out"


def test_nothing_left_stays_in_the_caller() -> None:
    chosen = choice(0, item_seconds=1.0, cpu_seconds=1.0)
    assert chosen.kind == "sequential"
    assert "none is left" in chosen.reason


def test_work_that_is_dearer_to_send_than_to_do_stays_in_the_caller() -> None:
    chosen = choice(
        None, item_seconds=1e-4, cpu_seconds=1e-4, thread_speedup=1.0,
        payload_bytes=10**6, payload_seconds=1e-3,
    )  # fmt: skip
    assert chosen.kind == "sequential"
    assert chosen.reason == "pickling an item and its result takes 1 ms, computing it 100 µs"


def test_a_pool_that_has_to_start_first_needs_more_work() -> None:
    work = Measurements(10, 0.01, 0.01, thread_speedup=1.0, payload_seconds=1e-5)
    warm = Resources(cpus=2, thread_workers=32, process_workers=2, process_start=0.0)
    assert choose(work, 10, TWO_CPUS).kind == "sequential"
    assert choose(work, 10, warm).kind == "process"
    assert choose(work, 100, TWO_CPUS).kind == "process"


def test_a_start_takes_longer_in_a_large_program(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = dict.fromkeys(map(str, range(auto.USUAL_MODULES)))
    monkeypatch.setattr(sys, "modules", usual)
    assert auto._cold_start() == auto.COLD_START
    # As many as NumPy has: it takes a tenth of a second to import, but few tasks need all of them.
    monkeypatch.setattr(sys, "modules", usual | dict.fromkeys(map(str, range(1000, 1100))))
    assert auto._cold_start() == pytest.approx(auto.COLD_START + 0.015)
    monkeypatch.setattr(sys, "modules", usual | dict.fromkeys(map(str, range(1000, 9000))))
    assert auto._cold_start() == auto.LONGEST_START


def test_one_cpu_computes_in_the_caller_but_still_waits_on_threads() -> None:
    one = Resources(cpus=1, thread_workers=32, process_workers=1, process_start=0.08)
    chosen = choice(1000, one, item_seconds=0.01, cpu_seconds=0.01)
    assert chosen.kind == "sequential"
    assert chosen.reason == "items compute, 10 ms each, and there is one CPU"
    assert choice(1000, one, item_seconds=0.01, cpu_seconds=0.0).kind == "thread"


def test_what_cannot_be_pickled_does_not_go_to_processes() -> None:
    chosen = choice(
        1000, item_seconds=0.01, cpu_seconds=0.01, thread_speedup=1.0, unpicklable="no locks"
    )
    assert chosen.kind == "sequential"
    assert chosen.reason == "items hold the GIL and cannot go to a process: no locks"
    assert "process" not in chosen.measurements.predicted


def test_a_timeout_needs_workers() -> None:
    have = Resources(2, 32, 2, 0.08, enforce_timeout=True)
    assert choice(10, have, item_seconds=1e-6, cpu_seconds=1e-6).kind == "thread"


def test_few_long_items_count_as_whole_items() -> None:
    predicted = predict(
        Measurements(1, 1.0, 1.0, thread_speedup=1.0, payload_seconds=1e-5), 3, TWO_CPUS
    )
    assert predicted["sequential"] == 3
    assert 2 < predicted["process"] < 2.2


def test_nothing_goes_to_processes_unless_it_has_been_pickled() -> None:
    assert "process" not in predict(Measurements(1, 1.0, 1.0), 100, TWO_CPUS)


@given(
    item_seconds=st.floats(0, 100),
    share=st.floats(0, 1),
    speedup=st.none() | st.floats(1, 2),
    payload=st.none() | st.floats(0, 10),
    remaining=st.none() | st.integers(0, 10**7),
    cpus=st.integers(1, 128),
)
def test_the_choice_is_the_shortest_or_a_simpler_one(
    item_seconds: float,
    share: float,
    speedup: float | None,
    payload: float | None,
    remaining: int | None,
    cpus: int,
) -> None:
    have = Resources(cpus, 32, cpus, 0.08)
    measured = Measurements(3, item_seconds, share * item_seconds, speedup, 10, payload, None)
    chosen = choose(measured, remaining, have)
    predicted = chosen.measurements.predicted
    assert predicted[chosen.kind] <= min(predicted.values()) / 0.8**2
    assert chosen.reason
    assert "\n" not in chosen.reason
    assert str(chosen).startswith(chosen.kind + ": ")


# --- real work ----------------------------------------------------------------------------------


def compute(number: int) -> int:
    total = 0
    for each in range(20_000):
        total += each * number
    return total


def nap(number: int) -> int:
    time.sleep(0.005)
    return number


TEXT = random.Random(1).randbytes(50_000) * 2 + b"abc" * 50_000


def squeeze_much(_: int) -> int:
    return len(zlib.compress(TEXT, 6))


class Log:
    """Remembers what it was called with; unpicklable, so that nothing runs out of sight."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[int] = []

    def __call__(self, number: int) -> int:
        with self.lock:
            self.seen.append(number)
        return number + 1


def last() -> Choice:
    chosen = mh.last_choice()
    assert chosen is not None
    return chosen


def test_a_few_small_items_stay_in_the_caller() -> None:
    assert mh.map(abs, [-1, 2, -3]) == [1, 2, 3]
    assert last().kind == "sequential"


def test_no_items() -> None:
    assert mh.map(abs, []) == []
    assert last().kind == "sequential"
    assert list(mh.imap(abs, [])) == []


def test_waiting_items_run_on_threads() -> None:
    assert mh.map(nap, range(60)) == list(range(60))
    assert last().kind == "thread"
    assert last().measurements.waiting > 0.5


def test_computing_items_run_at_the_same_time_if_there_are_cpus() -> None:
    if default_workers() < 2:
        pytest.skip("with one CPU, computing items rightly stay in the caller")
    # To start a pool for it would take longer than half a second of work saves.
    mh.shared_pool().submit(int).result()
    assert mh.map(compute, range(1000)) == list(map(compute, range(1000)))
    assert last().kind == ("process" if has_gil() else "thread")


def test_a_long_item_is_watched_while_it_runs() -> None:
    began = time.perf_counter()
    assert mh.map(time.sleep, [0.5] * 8) == [None] * 8
    assert last().kind == "thread"
    # All at once, although the first had not ended when the choice was made.
    assert time.perf_counter() - began < 8 * 0.5


def test_every_item_runs_exactly_once() -> None:
    log = Log()
    assert mh.map(log, range(50_000)) == list(range(1, 50_001))
    assert sorted(log.seen) == list(range(50_000))


def test_every_waiting_item_runs_exactly_once() -> None:
    log = Log()

    def work(number: int) -> int:
        time.sleep(0.002)
        return log(number)

    assert mh.map(work, range(100)) == list(range(1, 101))
    assert sorted(log.seen) == list(range(100))


def test_items_that_become_dear_are_noticed() -> None:
    def work(number: int) -> int:
        if number >= 500:
            time.sleep(0.01)
        return number

    assert mh.map(work, range(600)) == list(range(600))
    assert last().kind == "thread"


def test_the_first_failure_in_order_is_raised() -> None:
    def work(number: int) -> int:
        time.sleep(0.001)
        if number in (0, 40, 90):
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match=r"(?m)^0$"):
        mh.map(work, range(100))
    with pytest.raises(ValueError, match=r"(?m)^40$"):
        mh.map(work, range(1, 100))


def test_imap_chooses_too() -> None:
    assert list(mh.imap(nap, range(40))) == list(range(40))
    assert last().kind == "thread"
    assert sorted(mh.imap(nap, range(40), ordered=False)) == list(range(40))


def test_imap_keeps_to_its_buffer() -> None:
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    results = mh.imap(nap, source(), buffersize=3)
    assert read <= 3
    assert list(islice(results, 10)) == list(range(1, 11))
    assert read <= 13
    results.close()


def test_a_choice_belongs_to_its_context() -> None:
    mh.map(abs, [1])
    mine = mh.last_choice()
    seen: list[Choice | None] = []

    def other() -> None:
        seen.append(mh.last_choice())
        mh.map(nap, range(50))
        seen.append(mh.last_choice())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    # Where a thread begins with a copy of its maker's context, it knows that one's choice.
    assert seen[0] is (mine if getattr(sys.flags, "thread_inherit_context", 0) else None)
    assert seen[1] is not None
    assert seen[1].kind == "thread"
    assert mh.last_choice() is mine


def test_a_timeout_is_enforced() -> None:
    with pytest.raises(mh.TaskTimeout):
        mh.map(mh.sleep, [0, 30, 0], timeout=0.2)


def test_retries_reach_the_pilot_and_the_rest() -> None:
    tried: set[int] = set()

    def work(number: int) -> int:
        if number not in tried:
            tried.add(number)
            raise OSError(number)
        return number

    assert mh.map(work, range(2000), retries=1) == list(range(2000))
    tried.clear()
    assert list(mh.imap(work, range(2000), retries=1)) == list(range(2000))


# --- two threads side by side -------------------------------------------------------------------


def spent(wall: float, cpu: float, queued: float) -> tuple[Reading, Reading]:
    """First and last reading of a thread, in milliseconds."""
    return Reading(1.0, 2.0, 3.0), Reading(1 + wall / 1e3, 2 + cpu / 1e3, 3 + queued / 1e3)


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        ([spent(10, 10, 0), spent(10, 10, 0)], 2.0),
        ([spent(20, 10, 0), spent(20, 10, 0)], 1.0),
        ([spent(15, 10, 0), spent(15, 10, 0)], 1.33),
        # Each had a CPU for a quarter of the time, which says nothing about the GIL.
        ([spent(40, 10, 30), spent(40, 10, 30)], 2.0),
        # As before, but they took turns; other work made both of them queue as well.
        ([spent(40, 10, 12), spent(40, 10, 10)], 1.0),
        # Woken up now and then to ask for the GIL, the second had to queue for that.
        ([spent(50, 9, 33), spent(50, 9, 25)], 1.0),
    ],
)
def test_time_without_a_cpu_is_not_blamed_on_the_gil(
    threads: list[tuple[Reading, Reading]], expected: float
) -> None:
    found = overlap(threads, None, 0.0)
    assert found is not None
    assert found.speedup == pytest.approx(expected, abs=0.15)
    assert found.doubtful == any(last.queued > 3.0 for _, last in threads)


def test_what_one_does_when_the_other_has_ended_does_not_count() -> None:
    # They took turns for 20 ms; then the second went on alone.
    threads = [spent(20, 10, 0), spent(60, 50, 0)]
    found = overlap(threads, 1.020, 0.0)
    assert found is not None
    assert found.speedup < 1.3
    free = overlap([spent(20, 20, 0), spent(60, 20, 40)], 1.020, 0.0)
    assert free is not None
    assert free.speedup == 2.0


def test_what_items_wait_by_themselves_is_not_blamed_on_the_gil() -> None:
    found = overlap([spent(20, 14, 0), spent(20, 14, 0)], None, share=0.3)
    assert found is not None
    assert found.speedup == pytest.approx(2.0)


@pytest.mark.parametrize(
    "threads",
    [
        [spent(1, 1, 0), spent(10, 10, 0)],  # hardly at the same time
        [spent(50, 0.5, 49.5), spent(50, 0.5, 49.5)],  # no CPU
        [spent(50, 10, 40), spent(50, 0.1, 49.9)],  # only one of them had a CPU
    ],
)
def test_what_says_nothing_is_not_taken_for_an_answer(
    threads: list[tuple[Reading, Reading]],
) -> None:
    assert overlap(threads, None, 0.0) is None


@given(
    times=st.lists(st.tuples(*[st.floats(0, 100)] * 3), min_size=2, max_size=2),
    ended=st.none() | st.floats(1, 2),
    share=st.floats(0, 1),
)
def test_a_speedup_is_between_one_and_two(
    times: list[tuple[float, float, float]], ended: float | None, share: float
) -> None:
    found = overlap([spent(*each) for each in times], ended, share)
    assert found is None or 1.0 <= found.speedup <= 2.0


def side_by_side(fn: Any, items: int) -> tuple[Overlap, bool]:
    """Run pairs until one says something; what, and whether both computed at the same time."""
    with mh.ThreadPoolExecutor(2) as pool:
        while True:
            meters = [Meter(exact=True), Meter(exact=True)]
            pair = Pair(meters)
            pieces = [
                pool.submit(metered_piece, meter, fn, range(items), False, 0, ())
                for meter in meters
            ]
            found = pair.wait(0.05, 1.0)
            mh.wait(pieces)
            if found is not None:
                return found, pair.together


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two other processes that compute without end."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(2)]
    yield
    for other in others:
        other.kill()
        other.wait()


def test_threads_under_the_gil_take_turns_and_others_do_not(busy_machine: None) -> None:
    if default_workers() < 2:
        pytest.skip("with one CPU there is nothing to be told apart")
    if has_gil():
        held = [side_by_side(compute, 5) for _ in range(10)]
        assert not any(at_once for _, at_once in held), held
        assert (judge(held) or 1.0) < 1.5, held
    # Sooner or later both have a CPU.
    for work in [squeeze_much] if has_gil() else [squeeze_much, compute]:
        free: list[tuple[Overlap, bool]] = []
        while (judge(free) or 1.0) <= 1.5:
            free.append(side_by_side(work, 5))


def test_other_work_leads_to_no_dear_mistake(busy_machine: None) -> None:
    if default_workers() < 2:
        pytest.skip("with one CPU, computing items rightly stay in the caller")
    mh.shared_pool().submit(int).result()
    kinds: dict[str, list[str]] = {}
    for fn, items in ((compute, 400), (nap, 30)):
        chosen = []
        for _ in range(5):
            mh.map(fn, range(items))
            chosen.append(last().kind)
        kinds[fn.__name__] = sorted(chosen)
    # Threads would gain nothing, and processes little. (What computes without the GIL may go
    # either way: both are right.)
    if has_gil():
        assert kinds["compute"][2] == "process", kinds
    assert kinds["nap"][2] == "thread", kinds


def test_a_meter_tells_waiting_from_computing() -> None:
    meter = Meter(exact=True)
    metered_call(meter, time.sleep, (0.05,))
    assert meter.spent().wall >= 0.05
    assert meter.spent().cpu < 0.03
    assert not meter.running


def test_a_meter_can_be_read_while_the_piece_runs() -> None:
    meter = Meter(exact=True)
    assert (meter.look(), meter.spent().wall, meter.begun) == (None, 0.0, False)
    goes_on, ends = threading.Event(), threading.Event()

    def piece() -> None:
        goes_on.set()
        ends.wait()

    with mh.ThreadPoolExecutor(1) as pool:
        running = pool.submit(metered_call, meter, piece, ())
        goes_on.wait()
        reading = meter.look()
        ends.set()
        running.result()
    assert reading is not None
    final = meter.look()
    assert final is not None
    assert final.settled
    assert final.at >= reading.at
    assert final.cpu >= reading.cpu


@pytest.mark.parametrize(
    ("pairs", "speedup"),
    [
        ([], None),
        # CPU, waiting and queueing, in seconds of both threads together.
        ([(1.0, 1.0, 0.0, False)], 1.0),
        ([(1.0, 0.0, 0.9, True)], 2.0),
        ([(1.0, 0.8, 0.9, False), (1.0, 0.1, 0.9, True)], 2.0 / 1.1),
        # Never at the same time: if other work was the reason, nobody knows.
        ([(1.0, 0.1, 0.9, False), (1.0, 0.5, 0.9, False)], None),
        ([(1.0, 0.1, 0.9, False), (1.0, 0.9, 0.1, False)], 2.0 / 1.9),
        # Compressing, while others had nine tenths of the CPUs; and computing under the GIL then.
        (
            [(0.019, 0.01, 0.546, False), (0.018, 0.0, 0.473, False), (0.020, 0.006, 0.558, False)],
            2.0,
        ),
        (
            [
                (0.005, 0.035, 0.272, False),
                (0.005, 0.003, 0.124, False),
                (0.004, 0.0, 0.056, False),
            ],
            1.0,
        ),
    ],
)
def test_what_pairs_on_a_busy_machine_say(
    pairs: list[tuple[float, float, float, bool]], speedup: float | None
) -> None:
    assert judge([(Overlap(*each), at_once) for *each, at_once in pairs]) == pytest.approx(speedup)
