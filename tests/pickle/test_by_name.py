"""Functions that are sent by name are found without an unpickler, and as one finds them."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import manyhands as mh
from manyhands._pickle import pickling
from manyhands._worker import by_name, worker


def naming(module: str, name: str) -> bytes:
    """Return a pickle of what has this name, whether or not there is such a thing."""
    texts = b"".join(
        b"\x8c" + len(text).to_bytes(1, "little") + text + b"\x94"
        for text in (module.encode(), name.encode())
    )
    body = texts + b"\x93\x94."
    return b"\x80\x05\x95" + len(body).to_bytes(8, "little") + body


def failure(load: Any, data: bytes) -> tuple[type[BaseException], str, list[str]]:
    with pytest.raises(Exception) as raised:
        load(data)
    return type(raised.value), str(raised.value), getattr(raised.value, "__notes__", [])


@pytest.mark.parametrize(
    "named", [len, os.path.join, collections.Counter, mh.Pool.close, dict, os.environ.__class__.get]
)
def test_what_is_sent_by_name_is_found(named: Any) -> None:
    data = pickle.dumps(named, 5)
    assert data == naming(named.__module__, named.__qualname__)
    assert by_name.find(data) is named


@pytest.mark.parametrize(
    "other",
    [
        None,
        "len",
        b"\x93\x94.",
        (len,),
        [len],
        "".join,
        dict.fromkeys,
        1j,
        {"builtins": len},
        ValueError(),
    ],
)
def test_other_pickles_are_left_alone(other: object) -> None:
    assert by_name.find(pickle.dumps(other, 5)) is None


@pytest.mark.parametrize("protocol", range(5))
def test_so_are_those_of_other_protocols(protocol: int) -> None:
    assert by_name.find(pickle.dumps(len, protocol)) is None


@given(st.binary(max_size=40), st.binary(max_size=4))
def test_and_what_only_looks_like_one(inside: bytes, length: bytes) -> None:
    frame = b"\x80\x05\x95" + len(inside).to_bytes(8, "little")
    assert by_name.find(frame + b"\x8c" + length + inside + b"\x93\x94.x") is None
    data = frame + b"\x8c" + length + inside + b"\x94\x93\x94."
    try:
        found = by_name.find(data)
    except ValueError:  # no text, or none that could be a name
        return
    assert found is None or found is pickle.loads(data)


@pytest.mark.parametrize(
    ("module", "name"),
    [("module_that_nobody_has", "f"), ("os.nothing", "f"), ("os", "nothing"), ("os", "path.no")],
)
def test_what_is_not_there_fails_as_ever(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_loads", None)
    data = naming(module, name)
    kind, text, notes = failure(pickling.loads, data)
    told = failure(worker.Hooks.loads, data)
    assert told[:2] == (kind, text)
    assert told[2][: len(notes)] == notes
    assert "raised in the worker while unpickling" in told[2][-1]


@pytest.mark.parametrize("code", ["import module_that_nobody_has", "1 / 0"])
def test_a_module_that_fails_runs_once(
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "module_that_fails.py").write_text(f"print('runs')\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker, "_loads", None)
    data = naming("module_that_fails", "f")
    kind, text, notes = failure(worker.Hooks.loads, data)
    assert capsys.readouterr().out == "runs\n"
    assert failure(pickling.loads, data) == (kind, text, notes[:-1])
