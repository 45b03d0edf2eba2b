"""FIFOs of pickles that other users may write to: whoever can could run any code here.

Found by review; the advice of CPython's documentation on pickle.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

import manyhands as mh
from staying import as_root


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Return a FIFO that only this user can write to, in a folder of which that is true as well."""
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    path = folder / "fifo"
    os.mkfifo(path, 0o600)
    return path


def receives(path: Path) -> object:
    with mh.open_fifo(path, "r+", pickle=True) as fifo:
        fifo.send([1, "two"])
        return fifo.recv(timeout=10)


def test_a_fifo_of_ones_own_carries_objects(fifo: Path) -> None:
    assert receives(fifo) == [1, "two"]


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o622])
def test_a_fifo_that_others_may_write_carries_no_objects(fifo: Path, mode: int) -> None:
    fifo.chmod(mode)
    for direction in ("r", "r+"):
        with pytest.raises(PermissionError, match=r"other users may write.*trusted=True"):
            mh.open_fifo(fifo, direction, pickle=True)
    with mh.open_fifo(fifo, "r+") as plain:
        plain.send(b"bytes")
        assert plain.recv(timeout=10) == b"bytes"
    with mh.open_fifo(fifo, "r+", pickle=True, trusted=True) as said:
        said.send({"a": 1})
        with pickle.loads(pickle.dumps(said)) as again:
            assert again.recv(timeout=10) == {"a": 1}


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_in_which_others_may_put_another_fifo(fifo: Path, mode: int) -> None:
    fifo.parent.chmod(mode)
    with pytest.raises(PermissionError, match="its folder is"):
        receives(fifo)
    fifo.parent.chmod(mode | 0o1000)
    assert receives(fifo) == [1, "two"], "nobody else can replace a file in a sticky folder"


def test_a_fifo_reached_through_a_link_is_where_it_is(fifo: Path, tmp_path: Path) -> None:
    fifo.parent.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(fifo)
    with pytest.raises(PermissionError, match="its folder is"):
        receives(link)


def test_sending_runs_nobody_elses_code(fifo: Path) -> None:
    fifo.chmod(0o622)
    with (
        mh.open_fifo(fifo, "r", pickle=True, trusted=True) as reader,
        mh.open_fifo(fifo, "w", pickle=True, timeout=10) as writer,
    ):
        writer.send("an object")
        assert reader.recv(timeout=10) == "an object"


@as_root
def test_a_fifo_of_another_user(fifo: Path) -> None:
    os.chown(fifo, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        receives(fifo)
    os.chown(fifo, 0, 0)
    os.chown(fifo.parent, 12345, 12345)
    with pytest.raises(PermissionError, match="its folder belongs to user 12345"):
        receives(fifo)
