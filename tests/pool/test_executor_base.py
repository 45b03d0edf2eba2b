"""What both kinds of executor have in common: maps, options, sizes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from manyhands._pool.executor import Executor

KINDS = {"thread": mh.ThreadPoolExecutor, "process": mh.ProcessPoolExecutor}


@pytest.fixture(scope="module", params=list(KINDS))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with KINDS[request.param](max_workers=2) as pool:
        # What a pool starts once belongs to the module, not to the first test.
        pool.submit(int).result()
        yield pool


@pytest.fixture(params=list(KINDS))
def single(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Return an executor of one worker, for the test alone."""
    with KINDS[request.param](max_workers=1) as pool:
        yield pool


def double(number: int) -> int:
    return 2 * number


def fails_at_seven(number: int) -> int:
    if number == 7:
        raise ValueError(number)
    return number


def exits_at_seven(number: int) -> int:
    if number == 7:
        raise SystemExit(number)
    return number


def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def touch(path: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write("x")


def fails_first(path: str, error: type[Exception] = OSError) -> str:
    touch(path)
    if Path(path).stat().st_size == 1:
        raise error("first")
    return "second"


class Thing:
    pass


def make_thing(_: int) -> Thing:
    return Thing()


def wait_for(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.005)
    return path


class Counted:
    """An endless input that knows how much of it has been read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.read += 1
            yield self.read - 1


# --- map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 17, 5000])
@pytest.mark.parametrize("chunksize", [None, 1, 3, 10_000])
def test_map_is_the_builtin_map(executor: Executor, size: int, chunksize: int | None) -> None:
    assert list(executor.map(double, range(size), chunksize=chunksize)) == [
        2 * number for number in range(size)
    ]


def test_map_takes_several_iterables_and_stops_with_the_shortest(executor: Executor) -> None:
    assert list(executor.map(pow, [2, 3, 4], (5, 2), iter([7, 8, 9]))) == [4, 1]


def test_map_takes_iterators(executor: Executor) -> None:
    assert list(executor.map(double, iter(range(1000)))) == list(range(0, 2000, 2))


def test_map_passes_tuples_as_they_are(executor: Executor) -> None:
    assert list(executor.map(arguments, [(1, 2)])) == [(((1, 2),), {})]


def test_map_submits_before_the_first_result_is_asked_for(
    executor: Executor, tmp_path: Any
) -> None:
    names = [str(tmp_path / name) for name in "ab"]
    results = executor.map(touch, names)
    for name in names:
        wait_for(name)
    assert list(results) == [None, None]


def test_map_takes_lambdas_and_closures(executor: Executor) -> None:
    offset = 5
    assert list(executor.map(lambda number: number + offset, range(300))) == list(range(5, 305))


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_an_exception_surfaces_in_the_place_of_its_item(
    executor: Executor, chunksize: int | None
) -> None:
    results = executor.map(fails_at_seven, range(20), chunksize=chunksize)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="7"):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("chunksize", [1, 10])
def test_a_task_that_exits_fails_alone(executor: Executor, chunksize: int) -> None:
    results = executor.map(exits_at_seven, range(20), chunksize=chunksize)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(SystemExit):
        next(results)


def test_an_exception_in_a_process_keeps_its_traceback() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        with pytest.raises(ValueError) as caught:
            list(pool.map(fails_at_seven, range(20), chunksize=10))
    assert "in fails_at_seven" in str(caught.value.__cause__)


def test_closing_a_map_withdraws_what_has_not_begun(single: Executor, tmp_path: Any) -> None:
    gate, trace = str(tmp_path / "gate"), str(tmp_path / "trace")
    blocker = single.submit(wait_for, gate)
    results = single.map(touch, [trace] * 10, chunksize=1)
    next_results = iter(results)
    results.close()
    # Never started: a generator that has not begun has nothing to clean up, as in the stdlib.
    touch(gate)
    assert blocker.result() == gate
    assert list(next_results) == []


def test_an_error_withdraws_the_rest(single: Executor, tmp_path: Any) -> None:
    gate, trace = str(tmp_path / "gate"), str(tmp_path / "trace")

    def step(number: int) -> int:
        if number == 0:
            raise ValueError
        wait_for(gate)
        touch(trace)
        return number

    results = single.map(step, range(10), chunksize=1)
    with pytest.raises(ValueError):
        next(results)
    touch(gate)
    single.submit(double, 1).result()
    # The second may have begun in the meantime; the others cannot have.
    assert not Path(trace).exists() or Path(trace).stat().st_size == 1


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
def test_the_end_of_a_map_leaves_alone_what_is_running(
    executor: Executor, method: str, tmp_path: Path
) -> None:
    gate, begun, ended = (str(tmp_path / name) for name in ("gate", "begun", "ended"))

    def step(number: int) -> None:
        if number == 0:
            wait_for(begun)
            raise ValueError
        touch(begun)
        wait_for(gate)
        touch(ended)

    results = getattr(executor, method)(step, range(2), chunksize=1)
    with pytest.raises(ValueError):
        next(results)
    touch(gate)
    wait_for(ended)


def test_withdrawing_is_not_cancelling(single: Executor, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    first, second = single.submit(wait_for, gate), single.submit(double, 1)
    while not first.running():
        time.sleep(0.001)
    assert not first._withdraw()
    assert second._withdraw()
    assert second.cancelled()
    touch(gate)
    assert first.result(timeout=30) == gate
    assert not first._withdraw()


def test_map_has_one_timeout_for_all(executor: Executor, tmp_path: Any) -> None:
    gate = str(tmp_path / "gate")
    # Long enough for the first item, however busy the machine.
    results = executor.map(lambda name: wait_for(name) if name else "", ["", gate], timeout=2)
    assert next(results) == ""
    with pytest.raises(TimeoutError):
        next(results)
    touch(gate)


@pytest.mark.on_each_python
def test_results_are_let_go_as_they_are_taken(executor: Executor) -> None:
    for chunksize in (None, 1, 5):
        for thing in executor.map(make_thing, range(10), chunksize=chunksize):
            reference = weakref.ref(thing)
            del thing
            gc.collect()
            assert reference() is None


@pytest.mark.parametrize("method", ["map", "starmap", "imap", "imap_unordered"])
def test_nonsense_sizes_are_refused(executor: Executor, method: str) -> None:
    work = getattr(executor, method)
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        work(double, [], chunksize=0)
    with pytest.raises(TypeError, match="chunksize must be an integer or None, not str"):
        work(double, [], chunksize="3")
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        work(double, [], buffersize=-1)
    with pytest.raises(TypeError, match="needs a callable, got int"):
        work(3, [1])


def test_an_unpicklable_function_is_refused_at_once() -> None:
    lock = threading.Lock()
    with mh.ProcessPoolExecutor(1) as pool:
        with pytest.raises(TypeError, match="lock"):
            pool.map(lambda _: lock, range(1000))


def test_a_chunk_with_an_unpicklable_result_says_so() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        with pytest.raises(Exception, match="lock"):
            list(pool.map(lambda _: threading.Lock(), range(10), chunksize=5))


# --- starmap, imap ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_starmap_unpacks_items(executor: Executor, chunksize: int | None) -> None:
    items: list[Any] = [(7, 2), [9, 4], iter((8, 3))]
    if executor._kind.ships_functions:
        items.pop()  # an iterator over a tuple pickles, but not every iterator does
    assert (
        list(executor.starmap(divmod, items, chunksize=chunksize))
        == [
            (3, 1),
            (2, 1),
            (2, 2),
        ][: len(items)]
    )


@pytest.mark.parametrize("chunksize", [None, 1, 7])
def test_imap_takes_endless_input(executor: Executor, chunksize: int | None) -> None:
    results = executor.imap(double, count(), chunksize=chunksize)
    assert list(islice(results, 2000)) == list(range(0, 4000, 2))
    results.close()
    assert list(results) == []


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
@pytest.mark.parametrize("buffersize", [1, 2, 7, 100])
def test_a_buffer_bounds_how_far_the_input_is_read(
    executor: Executor, method: str, buffersize: int
) -> None:
    source = Counted()
    results = getattr(executor, method)(double, source, buffersize=buffersize)
    assert source.read <= buffersize
    for taken in range(1, 50):
        next(results)
        assert source.read <= buffersize + taken
    results.close()


def test_imap_without_a_buffer_size_is_bounded_too(executor: Executor) -> None:
    source = Counted()
    results = executor.imap(time.sleep, (0.0001 * (number % 2) for number in source))
    next(results)
    assert source.read < 1000
    results.close()


@pytest.mark.parametrize("chunksize", [None, 1, 3])
def test_imap_unordered_yields_every_result_once(executor: Executor, chunksize: int | None) -> None:
    results = executor.imap_unordered(double, range(3000), chunksize=chunksize)
    assert sorted(results) == list(range(0, 6000, 2))


def test_imap_unordered_does_not_wait_for_the_slow(executor: Executor, tmp_path: Any) -> None:
    gate = str(tmp_path / "gate")
    names = [gate, "quick"]
    results = executor.imap_unordered(lambda name: wait_for(name) if name == gate else name, names)
    assert next(results) == "quick"
    touch(gate)
    assert list(results) == [gate]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_raises_in_the_place_of_the_item(executor: Executor, method: str) -> None:
    results = getattr(executor, method)(fails_at_seven, range(20), chunksize=1)
    taken: list[int] = []
    with pytest.raises(ValueError, match="7"):
        taken.extend(results)
    if method == "imap":
        assert taken == list(range(7))
    assert list(results) == []


def test_an_error_of_the_input_comes_after_the_results_before_it(executor: Executor) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise OSError("input")

    results = executor.imap(double, numbers())
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(OSError, match="input"):
        next(results)


def test_imap_in_a_task_of_the_same_pool_does_not_wait_for_itself() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        outer = pool.submit(lambda: sum(pool.imap_unordered(double, range(10))))
        assert outer.result(timeout=30) == 90
        assert pool.submit(lambda: sum(pool.map(double, range(10)))).result(timeout=30) == 90


# --- options ------------------------------------------------------------------------------------


def test_options_never_take_keyword_arguments_of_the_function(executor: Executor) -> None:
    future = executor.options(timeout=30, name="mine").submit(
        arguments, 1, timeout=2, retries=3, fn=4, self=5, name=6, options=7, priority=8
    )
    expected = {
        "timeout": 2, "retries": 3, "fn": 4, "self": 5, "name": 6, "options": 7, "priority": 8,
    }  # fmt: skip
    assert future.result() == ((1,), expected)


def test_retries_try_again(executor: Executor, tmp_path: Any) -> None:
    path = str(tmp_path / "once")
    assert executor.options(retries=1).submit(fails_first, path).result() == "second"
    assert Path(path).stat().st_size == 2


def test_retry_on_says_what_is_worth_another_try(executor: Executor, tmp_path: Any) -> None:
    path = str(tmp_path / "once")
    bound = executor.options(retries=5, retry_on=(KeyError, IndexError))
    with pytest.raises(OSError, match="first"):
        bound.submit(fails_first, path).result()
    assert Path(path).stat().st_size == 1


@pytest.mark.parametrize("chunksize", [1, 4])
def test_a_map_retries_single_items(executor: Executor, tmp_path: Any, chunksize: int) -> None:
    paths = [str(tmp_path / name) for name in "abcdefgh"]
    bound = executor.options(retries=1, retry_on=OSError)
    assert list(bound.map(fails_first, paths, chunksize=chunksize)) == ["second"] * 8
    assert [Path(path).stat().st_size for path in paths] == [2] * 8


def test_a_map_with_a_timeout_per_item_fails_that_item(executor: Executor) -> None:
    # Long enough for the first item, however busy the machine.
    bound = executor.options(timeout=2)
    results = bound.map(mh.sleep, [0, 30, 0], chunksize=3)
    assert next(results) is None
    with pytest.raises(mh.TaskTimeout):
        next(results)


def test_the_other_maps_take_options_too(executor: Executor, tmp_path: Any) -> None:
    bound = executor.options(retries=1)
    names = iter("abcd")

    def fresh() -> str:
        return str(tmp_path / next(names))

    assert list(bound.starmap(fails_first, [(fresh(), KeyError)])) == ["second"]
    assert list(bound.imap(fails_first, [fresh()])) == ["second"]
    assert list(bound.imap_unordered(fails_first, [fresh()])) == ["second"]


def test_priority_leaves_the_queue_first(single: Executor, tmp_path: Any) -> None:
    gate, order = str(tmp_path / "gate"), str(tmp_path / "order")

    def note(letter: str) -> None:
        with open(order, "a", encoding="utf-8") as file:
            file.write(letter)

    blocker = single.submit(wait_for, gate)
    while not blocker.running():
        time.sleep(0.001)
    futures = [
        single.options(priority=priority).submit(note, letter)
        for priority, letter in [(0, "c"), (5, "a"), (-1, "e"), (5, "b"), (0, "d")]
    ]
    touch(gate)
    for future in futures:
        future.result()
    with open(order, encoding="utf-8") as file:
        assert file.read() == "abcde"


def test_options_can_be_changed_step_by_step(executor: Executor) -> None:
    bound = executor.options(timeout=3, retries=2).options(retries=4, name="x")
    assert bound._options.timeout == 3
    assert bound._options.retries == 4
    assert bound._options.name == "x"
    assert "retries=4" in repr(bound)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("timeout", "3", TypeError),
        ("timeout", True, TypeError),
        ("timeout", 0, ValueError),
        ("timeout", -1, ValueError),
        ("timeout", float("nan"), ValueError),
        ("retries", 1.5, TypeError),
        ("retries", -1, ValueError),
        ("retry_on", "OSError", TypeError),
        ("retry_on", (OSError, 3), TypeError),
        ("priority", "high", TypeError),
        ("priority", 2**40, ValueError),
        ("name", 3, TypeError),
    ],
)
def test_nonsense_options_are_refused(
    executor: Executor, option: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=option):
        executor.options(**{option: value})


def test_an_infinite_timeout_is_none(executor: Executor) -> None:
    assert executor.options(timeout=float("inf"))._options.timeout is None


# --- resize -------------------------------------------------------------------------------------


def test_resize_lets_more_tasks_run(single: Executor, tmp_path: Any) -> None:
    gate = str(tmp_path / "gate")
    first = single.submit(wait_for, gate)
    single.resize(2)
    assert single._max_workers == 2
    second = single.submit(touch, gate)
    assert second.result(timeout=30) is None
    assert first.result(timeout=30) == gate


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-3, ValueError), ("2", TypeError)])
def test_nonsense_sizes_of_pools_are_refused(
    executor: Executor, size: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="max_workers"):
        executor.resize(size)


def test_statistics_have_the_promised_keys(executor: Executor) -> None:
    executor.submit(double, 1).result()
    statistics = executor.statistics()
    assert {"queued", "running", "done", "failed", "retried", "workers"} <= set(statistics)
    keys = {"pid", "state", "task", "task_s", "tasks_done", "cpu_s", "rss_bytes", "restarts"}
    assert all(keys <= set(worker) for worker in statistics["workers"])
