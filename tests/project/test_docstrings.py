"""Everything that users call says what it does, also where it is written in Rust."""

from __future__ import annotations

import inspect
import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import pytest

import manyhands as mh

CLASSES = [
    mh.Lock,
    mh.RLock,
    mh.Semaphore,
    mh.BoundedSemaphore,
    mh.Event,
    mh.Condition,
    mh.Barrier,
    mh.Queue,
    mh.JoinableQueue,
    mh.SimpleQueue,
    mh.LifoQueue,
    mh.PriorityQueue,
    mh.Connection,
    mh.Fifo,
]


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Return the public methods and properties of a class, but what it keeps in slots."""
    for name in dir(kind):
        found = inspect.getattr_static(kind, name)
        if not name.startswith("_") and not inspect.ismemberdescriptor(found):
            yield name, getattr(kind, name)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_member_says_what_it_is(kind: type) -> None:
    assert [name for name, member in members(kind) if not inspect.getdoc(member)] == []


@pytest.mark.parametrize("name", mh.__all__)
def test_so_does_every_name(name: str) -> None:
    assert inspect.getdoc(getattr(mh, name))


def arguments(method: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Those that can be given by position, with their defaults."""
    found = list(inspect.signature(method).parameters.values())[1:]
    return [(each.name, each.default) for each in found if each.kind == each.POSITIONAL_OR_KEYWORD]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (mh.RLock.acquire, threading._PyRLock.acquire),  # type: ignore[attr-defined]
        (mh.Semaphore.acquire, threading.Semaphore.acquire),
        (mh.Semaphore.release, threading.Semaphore.release),
        (mh.Event.wait, threading.Event.wait),
        (mh.Condition.wait, threading.Condition.wait),
        (mh.Condition.wait_for, threading.Condition.wait_for),
        (mh.Condition.notify, threading.Condition.notify),
        (mh.Barrier.wait, threading.Barrier.wait),
        (mh.Queue.put, queue.Queue.put),
        (mh.Queue.get, queue.Queue.get),
        (mh.Queue.put_nowait, queue.Queue.put_nowait),
        (mh.Pipe, multiprocessing.Pipe),
        (mh.Connection.send, connection.Connection.send),
        (mh.Connection.send_bytes, connection.Connection.send_bytes),
        (mh.Connection.recv, connection.Connection.recv),
        (mh.Connection.recv_bytes, connection.Connection.recv_bytes),
        (mh.Connection.recv_bytes_into, connection.Connection.recv_bytes_into),
        (mh.Connection.poll, connection.Connection.poll),
    ],
    ids=lambda method: method.__qualname__,
)
def test_they_are_called_as_those_of_the_stdlib(
    ours: Callable[..., Any], theirs: Callable[..., Any]
) -> None:
    assert arguments(ours) == arguments(theirs)


def test_a_lock_is_acquired_as_every_other() -> None:
    assert arguments(mh.Lock.acquire) == arguments(mh.RLock.acquire)
