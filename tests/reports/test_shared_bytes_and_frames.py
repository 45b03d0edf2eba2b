"""Bytes, data frames, and arrays in containers: placed in shared memory once, used in place.

Reports: ray-project/ray#984, joblib/joblib#451, nalepae/pandarallel#94: a frame of gigabytes is
copied for each task, or must be taken apart by hand.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zlib
from typing import Any, NamedTuple

import numpy as np
import pytest

import manyhands as mh

BIG = bytes(range(256)) * 4096


def content(data: Any) -> tuple[str, int, bytes, str]:
    """Return what a task sees of shared bytes."""
    return type(data).__name__, len(data), bytes(data[:3]), hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_used_in_place(kind: Any) -> None:
    shared = mh.share(kind(BIG))
    assert len(pickle.dumps(shared)) < 1000
    expected = ("SharedBytes", len(BIG), BIG[:3], hashlib.sha256(BIG).hexdigest())
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(content, shared).result() == expected
        assert content(pool.submit(lambda data: data, shared).result()) == expected
    with mh.ThreadPoolExecutor(1) as threads:
        assert threads.submit(content, shared).result() == expected


def test_what_takes_bytes_takes_them() -> None:
    shared: Any = mh.share(b"many hands make light work")
    assert shared == b"many hands make light work"
    assert shared != b"many"
    assert shared[0] == ord("m")
    assert list(shared[:3]) == list(b"man")
    assert bytes(shared) == b"many hands make light work"
    assert b"".join([shared, b"!"]).endswith(b"work!")
    assert zlib.decompress(zlib.compress(shared)) == shared
    found = re.search(rb"h\w+", shared)
    assert found is not None
    assert found[0] == b"hands"
    assert int(np.frombuffer(shared, np.uint8)[1]) == ord("a")
    assert repr(shared) == "<SharedBytes of 26: b'many hands make ligh'...>"
    assert bytes(mh.share(b"")) == b""
    assert bytes(mh.share(memoryview(b"abcdef")[::2])) == b"ace"
    numbers: Any = np.arange(4, dtype=np.int16)
    assert bytes(mh.share(memoryview(numbers))) == numbers.tobytes()


def write(data: Any) -> None:
    """Change the first byte."""
    data[0] = 255


def test_writable_bytes_are_common() -> None:
    shared = mh.share(bytearray(3), writable=True)
    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(write, shared).result()
        assert bytes(shared) == b"\xff\0\0"
        fixed = mh.share(bytearray(3))
        with pytest.raises(TypeError, match="read-only"):
            pool.submit(write, fixed).result()
    with pytest.raises(TypeError, match="read-only"):
        write(fixed)


class Pair(NamedTuple):
    """A named tuple."""

    table: Any
    label: str


def test_containers_of_arrays() -> None:
    table = np.arange(1000.0)
    held = mh.share({"x": table, "more": [table, (table, 5)], "raw": b"raw", "n": 3, "none": None})
    assert isinstance(held["x"], mh.SharedArray)
    assert isinstance(held["more"][0], mh.SharedArray)
    assert isinstance(held["more"][1][0], mh.SharedArray)
    assert held["more"][1][1] == 5
    assert held["n"] == 3
    assert held["none"] is None
    assert bytes(held["raw"]) == b"raw"
    pair = mh.share(Pair(table, "label"))
    assert type(pair) is Pair
    assert pair.label == "label"
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(lambda held: float(held["more"][1][0].sum()), held).result() == 499500.0


def test_what_cannot_be_shared() -> None:
    for wrong in ("text", 5, None, object()):
        with pytest.raises(TypeError, match="share"):
            mh.share(wrong)
    with pytest.raises(TypeError, match="Python objects"):
        mh.share([np.array([object()])])


# -- data frames --------------------------------------------------------------------------------


def frame() -> Any:
    """Return a frame with columns of all kinds."""
    pandas = pytest.importorskip("pandas")
    made = pandas.DataFrame(
        {
            "a": np.arange(100_000),
            "b": np.linspace(0, 1, 100_000),
            "c": np.arange(100_000) % 2 == 0,
            "when": pandas.date_range("2020-01-01", periods=100_000, freq="min"),
        }
    )
    made["kind"] = pandas.Categorical(["x", "y"] * 50_000)
    made.attrs["source"] = "here"
    return made


def seen(table: Any) -> tuple[Any, ...]:
    """Return what a task sees of a frame."""
    return (
        int(table["a"].sum()),
        float(table["b"].iloc[-1]),
        int(table["c"].sum()),
        str(table["when"].iloc[1]),
        list(table["kind"].iloc[:2]),
        table.attrs["source"],
        len(pickle.dumps(table[["a", "b"]].iloc[:0])) < 2000,
    )


def test_a_frame_travels_by_address() -> None:
    original = frame()
    shared = mh.share(original)
    assert shared.equals(original)
    assert shared.dtypes.equals(original.dtypes)
    assert len(pickle.dumps(shared[["a"]])) > 100_000  # what is made from it is ordinary
    rest = len(pickle.dumps(original[["kind"]]))
    assert len(pickle.dumps(shared)) < rest + 10_000
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(seen, shared).result() == seen(original)
        again = pool.submit(lambda table: table, shared).result()
    assert again.equals(original)
    assert type(shared.head()).__name__ == "DataFrame"


def change(table: Any) -> None:
    """Write into the memory of a column."""
    np.asarray(table["a"])[0] = 41


def test_a_frame_is_no_copy_and_cannot_be_changed_in_place() -> None:
    original = frame()
    shared = mh.share(original)
    original.loc[0, "a"] = 77
    assert int(shared["a"].iloc[0]) == 0
    with pytest.raises(ValueError, match="read-only"):
        shared["a"].to_numpy()[0] = 1
    with mh.ProcessPoolExecutor(1) as pool, pytest.raises(ValueError, match="read-only"):
        pool.submit(change, shared).result()
    common = mh.share({"a": np.zeros(3)}, writable=True)
    with mh.ProcessPoolExecutor(1) as pool:
        pool.submit(change, common).result()
    assert common["a"].tolist() == [41, 0, 0]


def test_columns_that_were_assigned_travel_as_usual() -> None:
    shared = mh.share(frame())
    shared["new"] = 5
    shared["a"] = shared["a"] * 2
    with mh.ProcessPoolExecutor(1) as pool:
        again = pool.submit(lambda table: table, shared).result()
    assert again.equals(shared)
    assert list(again.columns) == ["a", "b", "c", "when", "kind", "new"]


def test_names_that_occur_twice() -> None:
    pandas = pytest.importorskip("pandas")
    twice = pandas.DataFrame(np.arange(12.0).reshape(4, 3), columns=["x", "x", "y"])
    twice.index = list("abcd")
    shared = mh.share(twice)
    assert shared.equals(twice)
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(lambda table: table, shared).result().equals(twice)
    assert mh.share({"frame": twice})["frame"].equals(twice)
    assert mh.share(pandas.DataFrame()).empty
