"""What pickle refuses and cloudpickle takes: it arrives as what it was, or submit refuses it.

Reports: dill#493 and dill#494 (files), cloudpickle#391 (libraries of ctypes). cloudpickle makes
bytes of every memoryview, and items of eight bytes became items of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ctypes.util
import os
import select
import sqlite3
import tempfile
import threading
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as made:
        made.submit(abs, -1).result()  # its processes are no test's
        yield made


def look(view: memoryview) -> tuple[Any, ...]:
    return view.format, view.shape, view.readonly, view.tolist()


VIEWS = {
    "doubles": lambda: memoryview(array("d", [0.5, 1.5])),
    "bytes": lambda: memoryview(b"abc"),
    "signed": lambda: memoryview(array("b", [-1, 2])),
    "two dimensions": lambda: memoryview(bytes(range(6))).cast("B", (2, 3)),
    "two dimensions of ints": lambda: memoryview(bytes(24)).cast("i", (2, 3)),
    "every second": lambda: memoryview(array("i", range(6)))[::2],
    "none": lambda: memoryview(array("i")),
    "writable": lambda: memoryview(bytearray(b"abc")),
    "large": lambda: memoryview(array("q", range(100_000))),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_memoryview_arrives_as_it_is(pool: mh.ProcessPoolExecutor, name: str) -> None:
    view = VIEWS[name]()
    assert pool.submit(look, view).result() == look(view)


def test_a_result_that_is_a_memoryview(pool: mh.ProcessPoolExecutor) -> None:
    got = pool.submit(lambda: memoryview(array("d", [0.5, 1.5]))).result()
    assert look(got) == ("d", (2,), False, [0.5, 1.5])


def test_a_library_arrives_with_what_its_functions_were_told(pool: mh.ProcessPoolExecutor) -> None:
    found = ctypes.util.find_library("m")
    if found is None:
        pytest.skip("no libm")
    math = ctypes.CDLL(found)
    math.sqrt.restype = ctypes.c_double
    math.sqrt.argtypes = [ctypes.c_double]
    sqrt = math.sqrt
    assert pool.submit(lambda: math.sqrt(6.25)).result() == 2.5
    assert list(pool.map(sqrt, [6.25, 2.25])) == [2.5, 1.5]


@contextlib.contextmanager
def generating() -> Iterator[Any]:
    yield (number for number in range(3))


@contextlib.contextmanager
def looping() -> Iterator[Any]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@contextlib.contextmanager
def scanning() -> Iterator[Any]:
    with os.scandir(Path(__file__).parent) as entries:
        yield next(entries)


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int)

REFUSED: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "lock": lambda: contextlib.nullcontext(threading.Lock()),
    "condition": lambda: contextlib.nullcontext(threading.Condition()),
    "thread": lambda: contextlib.nullcontext(threading.Thread()),
    "generator": generating,
    "event loop": looping,
    "database": lambda: contextlib.closing(sqlite3.connect(":memory:")),
    "DirEntry": scanning,
    "epoll": lambda: contextlib.closing(select.epoll()),
    "binary file": tempfile.TemporaryFile,
    "text file": partial(tempfile.TemporaryFile, "w"),
    "callback": lambda: contextlib.nullcontext(CALLBACK(lambda: 1)),
    "items of a format": lambda: contextlib.nullcontext(memoryview(ctypes.c_int(1))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_belongs_to_its_process_is_refused_by_name(
    pool: mh.ProcessPoolExecutor, name: str
) -> None:
    with REFUSED[name]() as made:
        with pytest.raises((TypeError, ValueError)) as told:
            pool.submit(type, made)
        with pytest.raises((TypeError, ValueError)):
            pool.submit(lambda: made)
    text = str(told.value) + "".join(getattr(told.value, "__notes__", []))
    assert "args[0]" in text
    assert pool.submit(abs, -1).result() == 1
