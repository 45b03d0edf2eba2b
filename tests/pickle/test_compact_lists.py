"""Lists of scalars and ranges travel without pickle: what comes out is what went in."""

from __future__ import annotations

import ctypes
import itertools
import math
import random
import re
import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manyhands as mh
import tasks

INTS = [0, -1, 127, 128, -128, -129, 32767, 32768, -32769, 2**31 - 1, 2**31, -(2**31) - 1]
INTS += [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**30]
FLOATS = [0.0, -0.0, math.inf, -math.inf, 5e-324, 1.5]

# Long lists are compared as texts, which takes a tenth of the time.
LONG = 2000

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3))
lists = st.one_of(
    st.lists(st.integers(), max_size=50),
    st.lists(st.integers(-200, 200), max_size=50),
    st.lists(st.floats(), max_size=50),
    st.lists(scalars, max_size=50),
)


class Level(IntEnum):
    HIGH = 3


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(tasks.pid).result()
        yield pool


@pytest.fixture(scope="module")
def queue() -> mh.Queue[Any]:
    return mh.Queue()


def same(value: object, other: object) -> bool:
    """Whether both are of the same types and values, down to the bits of floats."""
    if type(value) is not type(other):
        return False
    if isinstance(value, list) and isinstance(other, list) and len(value) > LONG:
        return list(map(type, value)) == list(map(type, other)) and repr(value) == repr(other)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    if isinstance(value, float):
        return struct.pack("d", value) == struct.pack("d", other)
    return value == other


@given(values=lists)
def test_lists_come_out_of_a_queue_as_they_went_in(queue: mh.Queue[Any], values: list[Any]) -> None:
    for value in (values, (values, 1.5), [values], (values, values)):
        queue.put(value)
        assert same(queue.get(), value)


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        *itertools.product(
            ("small", "large", "huge", "floats", "mixed", "texts"), (0, 1, 2, 31, 300, 5000, 70_000)
        ),
        # Longer than what goes without pickle.
        ("small", 525_000),
    ],
)
def test_lists_go_to_a_task_and_back(pool: mh.ProcessPoolExecutor, kind: str, length: int) -> None:
    made: dict[str, list[Any]] = {
        "small": [index % 100 - 50 for index in range(length)],
        "large": [index * 2**32 for index in range(length)],
        "huge": [index + 2**63 for index in range(length)],
        "floats": [index / 7 for index in range(length)],
        "mixed": [(None, True, index, -0.0)[index % 4] for index in range(length)],
        "texts": [*range(length - 1), "the last one"][:length],
    }
    values = made[kind]
    assert same(pool.submit(tasks.identity, values).result(), values)
    args, kwargs = pool.submit(tasks.everything, values, 1, key=values).result()
    assert same(args, (values, 1))
    assert same(kwargs["key"], values)
    assert args[0] is kwargs["key"], "what is one list stays one"


def test_each_item_keeps_its_type(queue: mh.Queue[Any]) -> None:
    several = [*INTS, *FLOATS, None, True, False, Level.HIGH, "text"]
    for first, last in itertools.product(several, several):
        queue.put([first, 5, last])
        assert same(queue.get(), [first, 5, last])


@pytest.mark.parametrize("plain", [7, -(2**40), 0.5, None], ids=repr)
def test_one_other_item_anywhere(queue: mh.Queue[Any], plain: object) -> None:
    others: tuple[object, ...] = (None, 2.5, 2**70, "text", b"x", [])
    for length, other in itertools.product((17, 50), others):
        for place in range(length):
            values = [plain] * length
            values[place] = other
            queue.put(values)
            assert same(queue.get(), values)


def test_plain_lists_after_one_that_is_not(queue: mh.Queue[Any]) -> None:
    odd: list[Any] = [*range(200)]
    odd[107] = "text"
    for _ in range(2):
        # Some of them are left to pickle, and then none.
        for values in (odd, *([number, *range(50)] for number in range(40))):
            queue.put(values)
            assert same(queue.get(), values)


def test_a_list_stands_where_it_stood(pool: mh.ProcessPoolExecutor) -> None:
    values = [*range(200)]
    for several in ((1, values, "x"), (values,), ((("a", values), None), 2.5, "x" * 40)):
        assert same(pool.submit(tasks.identity, several).result(), several)
        args, kwargs = pool.submit(tasks.everything, *several, name="x").result()
        assert same((args, kwargs), (several, {"name": "x"}))


def test_a_list_that_is_there_twice_stays_one(pool: mh.ProcessPoolExecutor) -> None:
    values = [1, 2]
    one, other = pool.submit(tasks.identity, (values, values)).result()
    assert one is other
    values.append(values)  # type: ignore[arg-type]
    back = pool.submit(tasks.identity, values).result()
    assert back[2] is back


@pytest.mark.parametrize(
    "value",
    [range(0), range(5), range(-3, 10, 2), range(9, 0, -1), range(2**63 - 1), range(0, 2**70, 3)],
    ids=repr,
)
def test_ranges(pool: mh.ProcessPoolExecutor, value: range) -> None:
    back = pool.submit(tasks.identity, (value, None)).result()
    assert same(back, (value, None))
    assert (back[0].start, back[0].stop, back[0].step) == (value.start, value.stop, value.step)


def items(count: int) -> list[Any]:
    return [(index, index / 3, None, -0.0, index % 2 == 0)[index % 5] for index in range(count)]


@pytest.mark.parametrize("chunksize", [None, 1, 100])
def test_maps_of_mixed_scalars(pool: mh.ProcessPoolExecutor, chunksize: int | None) -> None:
    values = items(2000)
    assert same(list(pool.map(tasks.identity, values, chunksize=chunksize)), values)
    assert same(list(pool.imap(tasks.identity, values, chunksize=chunksize)), values)


def address_of(content: bytes) -> int:
    """Where these bytes are in memory that processes share."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"(\w+)-(\w+) rw-s .*/memfd:manyhands", line)
        if found is None:
            continue
        start, end = (int(number, 16) for number in found.groups())
        resident = Path("/proc/self/mem").open("rb", buffering=0)  # noqa: SIM115
        with resident:
            resident.seek(start)
            at = (resident.read(min(end - start, 1 << 22)) or b"").find(content)
        if at >= 0:
            return start + at
    raise AssertionError("the item is not in shared memory")


@pytest.mark.parametrize(
    ("value", "head", "content"),
    [
        ([7_000_000_001, 7_000_000_003], 6, struct.pack("2q", 7_000_000_001, 7_000_000_003)),
        ([1.234567, 7.654321], 6, struct.pack("2d", 1.234567, 7.654321)),
        ([None, 7_000_000_007, 2.5], 8, struct.pack("=q", 7_000_000_007)),
        (range(7_000_000_009, 7_000_000_011), 1, struct.pack("2q", 7_000_000_009, 7_000_000_011)),
    ],
    ids=["ints", "floats", "mixed", "range"],
)
def test_damaged_bytes_are_an_error_or_another_value(
    value: object, head: int, content: bytes
) -> None:
    chance = random.Random(7)
    queue: mh.Queue[Any] = mh.Queue()
    refused = 0
    for _ in range(40):
        queue.put(value)
        at = address_of(content)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(-head, len(content))
            ctypes.memset(at + place, chance.choice((0, 9, 16, 128, 255, chance.randrange(256))), 1)
        try:
            queue.get(timeout=5)
        except Exception as error:
            refused += "code other than manyhands" in str(error)
        # The next one cannot be found where this one was.
        ctypes.memset(at, 0, len(content))
    assert refused, "a wrong count or kind is found out"
