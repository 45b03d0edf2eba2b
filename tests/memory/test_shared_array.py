"""SharedArray: NumPy arrays that several processes have at the same place."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import uuid
from typing import Any

import numpy as np
import pytest

import manyhands as mh
from children import METHODS, WAIT_S, child
from eventually import eventually
from manyhands._memory.share import shared_memory


def fill(array: Any, value: Any) -> None:
    array[...] = value


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        (5, int),
        ((2, 3), "f4"),
        ((), complex),
        ((0, 4), float),
        ([2, 2], "datetime64[s]"),
        (3, [("a", "i4"), ("b", "f8")]),
        (2, "S5"),
        (2, ">i8"),
        (np.int64(3), bool),
    ],
)
def test_a_new_array_is_zero(shape: Any, dtype: Any) -> None:
    array = mh.SharedArray(shape, dtype)
    assert np.array_equal(array, np.zeros(shape, dtype))
    assert (array.dtype, type(array)) == (np.dtype(dtype), mh.SharedArray)
    assert array.flags.writeable and array.flags.c_contiguous


def test_memory_that_was_used_before_is_zero_again() -> None:
    for _ in range(10):
        array = mh.SharedArray(200_000)
        assert not array.any()
        array[:] = 1.0
        del array
        gc.collect()


def test_the_type_is_float_by_default() -> None:
    assert mh.SharedArray(1).dtype == np.float64


def test_odd_shapes_and_types() -> None:
    assert mh.share(np.array(5.0)).shape == ()
    fields = np.dtype({"names": ["b", "a"], "formats": ["i4", "i4"], "offsets": [4, 0]})
    assert mh.SharedArray(2, fields).dtype == fields


def test_mistakes() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        mh.SharedArray(3, object)
    with pytest.raises(ValueError, match="negative"):
        mh.SharedArray((2, -1))
    with pytest.raises(MemoryError, match="shared memory"):
        mh.SharedArray(shared_memory()[1])
    with pytest.raises(MemoryError, match="shared memory"):
        mh.SharedArray((2**62, 4))
    with pytest.raises(TypeError, match="masked"):
        mh.share(np.ma.array([1, 2], mask=[True, False]))
    with pytest.raises(TypeError):
        mh.SharedArray("large")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_children_have_the_same_memory(method: str) -> None:
    array = mh.SharedArray((3, 4))
    with child(method, fill, array, 1.5), child(method, fill, array[1], 2.5):
        pass
    assert array[0].tolist() == [1.5] * 4
    with child(method, fill, array[::2, 1:3], 9):
        pass
    assert array.sum() == 4 * 9 + 4 * 1.5 + array[1].sum()


def start_and_forget() -> Any:
    process = multiprocessing.get_context("spawn").Process(target=fill, args=(mh.SharedArray(3), 1))
    process.start()
    return process


def test_an_array_that_only_the_child_will_have() -> None:
    process = start_and_forget()
    gc.collect()
    process.join(WAIT_S)
    assert process.exitcode == 0
    process.close()


def test_tasks() -> None:
    array = mh.SharedArray(4, int)
    with mh.ProcessPoolExecutor(2) as pool:
        mh.wait([pool.submit(fill, array[n : n + 1], n) for n in range(4)])
        back = pool.submit(lambda a: a[1:], array).result(timeout=WAIT_S)
    assert array.tolist() == [0, 1, 2, 3]
    back[0] = 7
    assert array[1] == 7


def fill_when_told(array: Any, go: Any, back: Any) -> None:
    go.get(timeout=WAIT_S)
    array[0] = 5
    back.put(float(array.sum()))


def test_a_child_goes_on_when_its_parent_lets_go() -> None:
    array, go, back = mh.SharedArray(1000), mh.Queue(), mh.Queue()
    with child("fork", fill_when_told, array, go, back):
        del array
        gc.collect()
        others = [mh.SharedArray(1000) for _ in range(20)]
        go.put(None)
        assert back.get(timeout=WAIT_S) == 5
        assert not any(other.any() for other in others)


def test_names() -> None:
    name = f"array-{uuid.uuid4()}"
    array = mh.SharedArray((2, 2), int, name=name)
    program = f"import manyhands as mh\nmh.SharedArray((2, 2), int, name={name!r})[0, 1] = 3"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=WAIT_S)
    assert array.tolist() == [[0, 3], [0, 0]]
    for shape, dtype in ((4, int), ((2, 2), float), ((2, 2), "i4")):
        with pytest.raises(ValueError, match=f"{name}.* is SharedArray of .*, not SharedArray of"):
            mh.SharedArray(shape, dtype, name=name)
    del array
    gc.collect()
    # `top`, which looks at everything, may have it for a moment.
    eventually(lambda: not mh.SharedArray((2, 2), int, name=name).any(), "gone with its last user")


def test_what_is_not_in_shared_memory_pickles_by_value() -> None:
    array = mh.SharedArray(3)
    copy = pickle.loads(pickle.dumps(array + 1))
    copy[0] = 9
    assert array.tolist() == [0, 0, 0]
    assert copy.tolist() == [9, 1, 1]


def test_results_are_ordinary_numbers_and_arrays() -> None:
    array = mh.SharedArray(3)
    array += np.arange(3)
    assert type(array) is mh.SharedArray
    assert json.dumps([array.sum(), array.max(), array @ array]) == "[3.0, 2.0, 5.0]"
    results = [array + 1, array == array, np.sqrt(array), array.copy(), -array, array.cumsum()]
    assert {type(result) for result in results} == {np.ndarray}
    assert type(np.add(array, 1, out=array)) is mh.SharedArray
    part = array[1:]
    part *= 2
    assert type(part) is mh.SharedArray
    assert array.tolist() == [1, 4, 6]


def test_a_read_only_view_stays_so() -> None:
    array = mh.SharedArray(3)
    view = array[1:]
    view.flags.writeable = False
    other = pickle.loads(pickle.dumps(view))
    array[1] = 4
    assert other.tolist() == [4, 0]
    with pytest.raises(ValueError, match="read-only"):
        other[0] = 1


@pytest.mark.parametrize(
    "dtype",
    [
        *("?", "i1", "q", "L", "e", "g", "F", ">i4", ">c16", "S5", "U3", "V3"),
        *("M8[ns]", "m8[25s]", [("a", "i1"), ("b", "f8")], ("i4", (2, 3))),
        np.dtype("i4", metadata={"unit": "m"}),
        np.dtype({"names": ["b", "a"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
    ],
    ids=repr,
)
def test_a_pickle_keeps_all_of_the_type(dtype: Any) -> None:
    array = mh.SharedArray((2, 2), dtype)
    for view in (array, array[1:], array[:, 1], array.T[::-1]):
        other = pickle.loads(pickle.dumps(view))
        # What a pickle of the type itself brings, which is more than being equal.
        expected = pickle.loads(pickle.dumps(view.dtype))
        assert (repr(other.dtype), other.dtype.metadata) == (repr(expected), expected.metadata)
        assert other.dtype == view.dtype and other.dtype.str == view.dtype.str
        assert (other.shape, other.strides) == (view.shape, view.strides)


class Picture(mh.SharedArray):
    title: str

    def corner(self) -> Any:
        return self[0, 0]


def look(picture: Any) -> tuple[str, Any, str]:
    picture[1, 1] = 5
    return type(picture).__name__, picture.corner(), picture.title


def test_its_class_and_its_attributes_go_along() -> None:
    picture = Picture((2, 2), int)
    picture[0, 0] = 3
    picture.title = "corners"
    assert look(pickle.loads(pickle.dumps(picture))) == ("Picture", 3, "corners")
    with mh.ProcessPoolExecutor(1) as pool:
        assert pool.submit(look, picture).result(WAIT_S) == ("Picture", 3, "corners")
        assert picture[1, 1] == 5
        plain: Any = mh.SharedArray(1)
        plain.me = plain
        assert pool.submit(lambda array: array.me is array, plain).result(WAIT_S)


def test_its_memory_is_given_back() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        # What a pool needs for itself is there before, and the memory of tasks kept at hand.
        pool.submit(fill, mh.SharedArray(1_000_000), 1).result(timeout=WAIT_S)
        gc.collect()
        before = shared_memory()[0]
        for _ in range(5):
            pool.submit(fill, mh.SharedArray(1_000_000), 1).result(timeout=WAIT_S)

    def is_back() -> bool:
        gc.collect()
        return shared_memory()[0] <= before + (1 << 20)

    eventually(is_back, "the arrays of the tasks are freed")


def test_a_pickle_of_what_is_gone_says_so() -> None:
    name = f"array-{uuid.uuid4()}"
    pickled = pickle.dumps(mh.SharedArray(3, name=name))
    gc.collect()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


def test_the_file_system_stays_empty() -> None:
    before = set(os.listdir("/dev/shm"))
    arrays = [mh.SharedArray(10), mh.SharedArray(10, name=f"array-{uuid.uuid4()}")]
    assert set(os.listdir("/dev/shm")) <= before
    del arrays
