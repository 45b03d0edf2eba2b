"""Futures by themselves: the standard library's protocol, waiting, callbacks, garbage."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, InvalidStateError, as_completed, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manyhands as mh
from eventually import eventually


@contextmanager
def threads(*targets: Callable[[], object]) -> Iterator[None]:
    """Run functions in threads beside the block."""
    running = [threading.Thread(target=target) for target in targets]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        for thread in running:
            thread.join()


# The protocol

OPERATIONS = [
    "set_running_or_notify_cancel",
    "set_result",
    "set_exception",
    "cancel",
    "cancelled",
    "running",
    "done",
    "result",
    "exception",
    "add_done_callback",
    "_state",
    "_result",
    "_exception",
]


def apply(future: concurrent.futures.Future[Any], name: str, heard: list[object]) -> object:
    """Do one thing to a future; return what can be seen of the outcome."""
    argument: dict[str, tuple[object, ...]] = {
        "set_result": (7,),
        "set_exception": (ValueError("no"),),
        "result": (0,),
        "exception": (0,),
        "add_done_callback": (lambda done: heard.append((done is future, done._state)),),
    }
    try:
        if name.startswith("_"):
            return repr(getattr(future, name))
        return repr(getattr(future, name)(*argument.get(name, ())))
    except BaseException as error:
        # Addresses differ, and so do the modules of the classes.
        return type(error), str(error).split(" at ")[0]


@given(names=st.lists(st.sampled_from(OPERATIONS), max_size=12), with_condition=st.booleans())
def test_behaves_as_the_stdlib_does(names: list[str], with_condition: bool) -> None:
    ours, theirs = mh.Future[int](), concurrent.futures.Future[int]()
    heard: list[list[object]] = [[], []]
    if with_condition:
        assert ours._condition is ours._condition
    logging.disable()
    try:
        for name in names:
            assert apply(ours, name, heard[0]) == apply(theirs, name, heard[1]), name
        assert heard[0] == heard[1]
    finally:
        logging.disable(logging.NOTSET)


@given(steps=st.lists(st.sampled_from(["start", "result", "exception", "cancel"]), max_size=4))
def test_waiters_hear_exactly_what_the_stdlib_tells_them(steps: list[str]) -> None:
    class Waiter:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def __getattr__(self, name: str) -> Callable[[object], None]:
            return lambda future: self.heard.append(name)

    seen = []
    logging.disable()
    try:
        for future in (mh.Future[int](), concurrent.futures.Future[int]()):
            waiter = Waiter()
            with future._condition:
                future._waiters.append(waiter)  # type: ignore[arg-type]
            for step in steps:
                try:
                    if step == "start":
                        future.set_running_or_notify_cancel()
                    elif step == "result":
                        future.set_result(1)
                    elif step == "exception":
                        future.set_exception(ValueError())
                    else:
                        future.cancel()
                except (InvalidStateError, RuntimeError):
                    pass
            seen.append(waiter.heard)
    finally:
        logging.disable(logging.NOTSET)
    assert seen[0] == seen[1]


def test_is_a_stdlib_future() -> None:
    future: mh.Future[int] = mh.Future()
    assert isinstance(future, concurrent.futures.Future)
    assert repr(future).startswith("<Future at 0x")
    assert str(mh.Future[int]) == "manyhands.Future[int]"


def test_an_exception_that_is_false_is_raised_all_the_same() -> None:
    class Empty(Exception):
        def __bool__(self) -> bool:
            return False

    future: mh.Future[int] = mh.Future()
    future.set_exception(Empty())
    with pytest.raises(Empty):
        future.result()


def test_a_class_can_be_set_as_exception() -> None:
    future: mh.Future[int] = mh.Future()
    future.set_exception(LookupError)  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        future.result()


def test_attributes_of_the_stdlib_can_be_set() -> None:
    future: mh.Future[int] = mh.Future()
    with pytest.raises(ValueError, match='"ASLEEP" is not the state'):
        future._state = "ASLEEP"
    future._state = "RUNNING"
    assert future.running()
    future._result = 5
    future._state = "FINISHED"
    assert future.result() == 5


def test_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(mh.Future())


def test_subclasses_keep_attributes_of_their_own() -> None:
    class Named(mh.Future[int]):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    future = Named("x")
    future.set_result(1)
    assert (future.name, future.result()) == ("x", 1)


# Waiting


def test_all_who_wait_are_woken() -> None:
    future: mh.Future[int] = mh.Future()
    got: list[int] = []
    with threads(*[lambda: got.append(future.result()) for _ in range(8)]):
        future.set_result(3)
    assert got == [3] * 8


def test_a_wait_ends_when_its_time_is_up() -> None:
    future: mh.Future[int] = mh.Future()
    for timeout in (-1, 0, 0.01, 1e-9):
        with pytest.raises(TimeoutError):
            future.result(timeout)
        with pytest.raises(TimeoutError):
            future.exception(timeout)
    with pytest.raises(TypeError):
        future.result("soon")  # type: ignore[arg-type]


def test_a_wait_may_be_endless() -> None:
    future: mh.Future[int] = mh.Future()
    with threads(lambda: future.set_result(1)):
        assert future.result(1e300) == 1


def test_cancelling_wakes_who_waits() -> None:
    future: mh.Future[int] = mh.Future()
    with threads(future.cancel):
        with pytest.raises(CancelledError):
            future.result()


def test_ctrl_c_interrupts_a_wait() -> None:
    future: mh.Future[int] = mh.Future()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        eventually(lambda: is_waiting_in("result"), "the main thread waits")
        signal.pthread_kill(main, signal.SIGINT)

    with threads(interrupt):
        with pytest.raises(KeyboardInterrupt):
            future.result()
    future.set_result(1)
    assert future.result() == 1


def test_a_signal_handler_that_returns_does_not_end_a_wait() -> None:
    future: mh.Future[int] = mh.Future()
    main = threading.main_thread().ident
    assert main is not None
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))

    def interrupt() -> None:
        eventually(lambda: is_waiting_in("result"), "the main thread waits")
        signal.pthread_kill(main, signal.SIGUSR1)
        eventually(lambda: came, "the handler runs while the main thread waits")
        future.set_result(2)

    try:
        with threads(interrupt):
            assert future.result() == 2
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [signal.SIGUSR1]


def is_waiting_in(name: str) -> bool:
    """Whether the main thread is in a line of this file that calls a method of this name."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    if frame.f_code.co_filename != __file__:
        return False
    with open(__file__) as file:
        return f".{name}(" in file.readlines()[frame.f_lineno - 1]


@settings(deadline=None, max_examples=20)
@given(orders=st.lists(st.permutations(range(6)), min_size=1, max_size=3))
def test_the_stdlibs_wait_and_as_completed(orders: list[list[int]]) -> None:
    for order in orders:
        futures: list[mh.Future[int]] = [mh.Future() for _ in order]

        def complete(futures: list[mh.Future[int]] = futures, order: list[int] = order) -> None:
            for number in order:
                futures[number].set_result(number)

        with threads(complete):
            assert sorted(each.result() for each in as_completed(futures)) == sorted(order)
        done, pending = wait(futures)
        assert (len(done), pending) == (6, set())


@pytest.mark.parametrize("race", range(20))
def test_one_of_many_wins(race: int) -> None:
    future: mh.Future[int] = mh.Future()
    called: list[object] = []
    future.add_done_callback(called.append)
    won: list[int] = []

    def attempt(number: int) -> None:
        try:
            if number % 2:
                future.set_result(number)
            elif not future.cancel():
                return
        except InvalidStateError:
            return
        won.append(number)

    with threads(*[partial(attempt, number) for number in range(6)]):
        pass
    assert called == [future]
    if future.cancelled():
        # Once it is cancelled, everybody who cancels it is told so.
        assert won and all(number % 2 == 0 for number in won)
    else:
        assert won == [future.result()]


def test_asyncio_can_wait_for_it() -> None:
    async def main() -> int:
        future: mh.Future[int] = mh.Future()
        thread = threading.Thread(target=future.set_result, args=(4,))
        waiting = asyncio.wrap_future(future)
        thread.start()
        try:
            return await waiting
        finally:
            thread.join()

    assert asyncio.run(main()) == 4


# Callbacks


def test_callbacks_run_in_order_and_their_errors_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future: mh.Future[int] = mh.Future()
    called: list[str] = []

    def fail(done: object) -> None:
        called.append("fail")
        raise ValueError("callback")

    future.add_done_callback(lambda done: called.append("first"))
    future.add_done_callback(fail)
    future.add_done_callback(lambda done: called.append("last"))
    future.set_result(1)
    assert called == ["first", "fail", "last"]
    [record] = caplog.records
    assert record.name == "concurrent.futures"
    assert "exception calling callback for <Future" in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "callback"


def test_no_callback_keeps_another_from_running() -> None:
    future: mh.Future[int] = mh.Future()
    called: list[object] = []

    def leave(done: object) -> None:
        raise SystemExit(3)

    future.add_done_callback(leave)
    future.add_done_callback(called.append)
    with pytest.raises(SystemExit):
        future.set_result(1)
    assert called == [future]
    assert future.result() == 1


def test_a_callback_may_use_the_future() -> None:
    future: mh.Future[int] = mh.Future()
    got: list[int] = []

    def again(done: concurrent.futures.Future[int]) -> None:
        got.append(done.result())
        done.add_done_callback(lambda same: got.append(same.result()))

    future.add_done_callback(again)
    future.set_result(9)
    assert got == [9, 9]


# Garbage


def hold(something: object, done: object) -> None:
    """Return a callback that refers to something."""


def test_cycles_are_collected() -> None:
    future: mh.Future[Any] = mh.Future()
    future.add_done_callback(partial(hold, future))
    dead = weakref.ref(future)
    del future
    gc.collect()
    assert dead() is None

    loop: mh.Future[Any] = mh.Future()
    loop.set_result([loop])
    loop._condition.acquire()
    dead = weakref.ref(loop)
    del loop
    gc.collect()
    assert dead() is None


def test_results_and_callbacks_are_let_go() -> None:
    class Thing:
        pass

    thing = Thing()
    dead = weakref.ref(thing)
    future: mh.Future[Thing] = mh.Future()
    future.set_result(thing)
    del thing
    assert future.result() is dead()
    del future
    assert dead() is None

    callback = Thing()
    dead = weakref.ref(callback)
    quick: mh.Future[int] = mh.Future()
    quick.add_done_callback(partial(hold, callback))
    del callback
    quick.set_result(1)
    assert dead() is None
