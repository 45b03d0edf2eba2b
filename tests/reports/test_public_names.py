"""Messages and `repr` speak of what users know: public names, workers, tasks, names, states."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually

PRIVATE = re.compile(r"_native|\b\w+Base\b|\b_[a-zA-Z]\w*")

MADE: dict[str, Callable[[], Any]] = {
    "Lock": mh.Lock,
    "RLock": mh.RLock,
    "Semaphore": mh.Semaphore,
    "BoundedSemaphore": mh.BoundedSemaphore,
    "Event": mh.Event,
    "Condition": mh.Condition,
    "Barrier": lambda: mh.Barrier(1),
    "Queue": mh.Queue,
    "JoinableQueue": mh.JoinableQueue,
    "SimpleQueue": mh.SimpleQueue,
    "LifoQueue": mh.LifoQueue,
    "PriorityQueue": mh.PriorityQueue,
    "Connection": lambda: mh.Pipe()[0],
    "Future": mh.Future,
    "ThreadPoolExecutor": lambda: mh.ThreadPoolExecutor(1),
    "ProcessPoolExecutor": lambda: mh.ProcessPoolExecutor(1),
    "Pool": lambda: mh.Pool(1),
}
CLASSES = [name for name in mh.__all__ if isinstance(getattr(mh, name), type)]


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = MADE[request.param]()
    yield made
    for end in ("shutdown", "terminate"):
        if hasattr(made, end) and not request.param.endswith("Queue"):
            getattr(made, end)()


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_where_users_find_them(name: str) -> None:
    kind: type = getattr(mh, name)
    if kind.__module__ == "queue":  # from Python 3.13 on, the stdlib has it
        return
    assert (kind.__module__, kind.__qualname__) == ("manyhands", name)
    assert pickle.loads(pickle.dumps(kind)) is kind


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__enter__", "__exit__", "__aenter__")


@pytest.mark.parametrize("made", MADE, indirect=True)
def test_errors_about_arguments_name_no_private_class(made: Any) -> None:
    messages = []
    for name in filter(is_public, dir(made)):
        method = getattr(made, name)
        if not callable(method) or isinstance(method, type):
            continue
        for args, named in (((0,) * 12, {}), ((), {"nonsense": 1})):
            try:
                result = method(*args, **named)
            except TypeError as error:
                messages.append(str(error))
            except Exception:
                continue
            else:
                if inspect.iscoroutine(result):
                    result.close()
    assert len(messages) >= 4
    assert [message for message in messages if PRIVATE.search(message)] == []


@pytest.mark.parametrize("name", MADE)
def test_a_repr_names_the_public_class(name: str) -> None:
    if name in ("ThreadPoolExecutor", "ProcessPoolExecutor", "Pool"):
        return  # below
    text = repr(MADE[name]())
    assert name in text
    assert not PRIVATE.search(text)


@pytest.mark.parametrize("name", ["Lock", "Queue", "LifoQueue"])
def test_a_message_names_the_class_that_was_called(name: str) -> None:
    made = MADE[name]()
    method = made.async_acquire if name == "Lock" else made.async_get
    with pytest.raises(TypeError, match=rf"{name}\.async_(acquire|get)\(\)"):
        method(1, 2, 3)


def test_subclasses_override_as_ever() -> None:
    class Shouting(mh.Queue[str]):
        def __init__(self, maxsize: int = 0) -> None:
            super().__init__(maxsize)

        def empty(self) -> bool:
            return not super().empty()

    queue = Shouting(3)
    assert queue.maxsize == 3
    assert queue.empty() is False


# What a repr says


@pytest.mark.parametrize("kind", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
def test_an_executor_says_its_workers_and_tasks(kind: Any) -> None:
    pool = kind(2)
    name = f"<manyhands.{kind.__name__} "
    assert repr(pool).startswith(f"{name}workers=0/2 tasks=0 at 0x")
    futures = [pool.submit(mh.sleep, 600) for _ in range(3)]
    eventually(lambda: all(future.running() for future in futures[:2]), "two run")
    try:
        # A worker may have taken a task before the pool hears that it is there.
        eventually(lambda: repr(pool).startswith(f"{name}workers=2/2 tasks=3 at 0x"), "two work")
        pool.shutdown(wait=False)
        assert repr(pool).startswith(f"{name}workers=2/2 tasks=3 shut down at 0x")
    finally:
        for future in reversed(futures):
            future.cancel()
        pool.shutdown()
    eventually(lambda: f"{name}workers=0/2 tasks=0 shut down" in repr(pool), "all have ended")


def test_a_broken_executor_says_so() -> None:
    with mh.ThreadPoolExecutor(1, initializer=divmod, initargs=(1, 0)) as pool:
        assert pool.submit(abs, 1).exception() is not None
        assert " broken at " in repr(pool)


def test_a_view_says_what_is_special() -> None:
    with mh.ThreadPoolExecutor(2) as pool:
        view = pool.options(timeout=5, retries=2)
        assert repr(view).startswith("<manyhands.ThreadPoolExecutor workers=0/2 tasks=0 at 0x")
        assert repr(view).endswith(" with timeout=5.0, retries=2>")
        assert repr(pool.options()).endswith(" with no options>")


def test_a_pool_says_what_it_runs_on() -> None:
    with mh.Pool(3, workers="thread") as pool:
        start = "<manyhands.Pool state=RUN pool_size=3 over <manyhands.ThreadPoolExecutor workers="
        assert repr(pool).startswith(start)
        result = pool.map_async(abs, range(6), chunksize=2)
        assert result.get() == list(range(6))
        assert repr(result).startswith("<manyhands.Pool MapResult tasks=0 at 0x")
        results = pool.imap(abs, range(3))
        assert repr(results).startswith("<manyhands.Pool PoolIterator tasks=3 at 0x")
        assert list(results) == [0, 1, 2]


@pytest.mark.parametrize("kind", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
def test_results_say_whose_they_are_and_how_many_are_to_come(kind: Any) -> None:
    with kind(2) as pool:
        results = pool.imap(abs, range(3), chunksize=1)
        assert repr(results).startswith("<manyhands.Results of abs tasks=3 at 0x")
        assert list(results) == [0, 1, 2]
        assert repr(results).startswith("<manyhands.Results of abs tasks=0 at 0x")
        assert repr(pool.map(abs, range(3), chunksize=1)).startswith("<manyhands.Results of abs")


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_results_of_functions_say_so_too(kind: Any) -> None:
    results = mh.imap(abs, range(3), chunksize=1, workers=kind)
    assert repr(results).startswith("<manyhands.Results of abs tasks=3 at 0x")
    assert list(results) == [0, 1, 2]
    assert repr(results).startswith("<manyhands.Results of abs tasks=0 at 0x")


def test_results_that_auto_shares_out_say_how_many_tasks_are_under_way() -> None:
    # The caller does it, as results are taken.
    results = mh.imap(abs, range(3))
    assert repr(results).startswith("<manyhands.Results of abs tasks=0 at 0x")
    assert list(results) == [0, 1, 2]
    results = mh.imap(mh.sleep, [0.05] * 40)
    assert tasks_of(results) > 1
    assert list(results) == [None] * 40
    assert tasks_of(results) == 0

    async def main() -> None:
        awaited = mh.imap(mh.sleep, [0.05] * 40)
        seen = [tasks_of(awaited) async for _ in awaited]
        assert seen[0] > 1
        assert seen[-1] == tasks_of(awaited) == 0

    asyncio.run(main())


def tasks_of(results: object) -> int:
    found = re.search(r"<manyhands.Results of \S+ tasks=(\d+) at 0x", repr(results))
    assert found
    return int(found[1])


@pytest.mark.parametrize(
    ("kind", "word"), [(mh.ThreadPoolExecutor, "thread"), (mh.ProcessPoolExecutor, "process")]
)
def test_a_future_says_who_works_for_it(kind: Any, word: str) -> None:
    with kind(1) as pool:
        future = pool.submit(abs, -1)
        future.result()
        pattern = rf"<Future at 0x[0-9a-f]+ state=finished returned int workers={word}>"
        assert re.fullmatch(pattern, repr(future))
    assert re.fullmatch(r"<Future at 0x[0-9a-f]+ state=pending>", repr(mh.Future[int]()))


def test_objects_by_name_say_it() -> None:
    name = f"named in a repr {multiprocessing.current_process().pid}"
    for make in (
        mh.Lock,
        mh.RLock,
        mh.Semaphore,
        mh.Event,
        mh.Condition,
        lambda name: mh.Barrier(2, name=name),
        lambda name: mh.Queue(name=name),
    ):
        made: Any = make(name=name)
        assert name in repr(made)
        del made


def test_states_of_conditions_and_values() -> None:
    assert repr(mh.Condition()).startswith("<manyhands.Condition with <unlocked manyhands.RLock")
    assert repr(mh.Condition()).endswith(": waiters=0>")
    assert repr(mh.Value("i", 7)).endswith(": value=7>")
    assert repr(mh.Array("i", 7)).endswith(": length=7>")


def test_a_fifo_says_its_path(tmp_path: Path) -> None:
    with mh.open_fifo(tmp_path / "fifo", "r+") as fifo:
        assert str(tmp_path) in repr(fifo)
        with pytest.raises(TypeError, match=r"Fifo\.send\(\)"):
            fifo.send()  # type: ignore[call-arg]
