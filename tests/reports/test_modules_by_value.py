"""Modules that only the parent can import: what is theirs goes by value, or the error says how.

Reports: pathos#218, joblib#921, cloudpickle#357; scripts that are run by `runpy.run_path`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import manyhands as mh

SOURCE = """
RATE = 19

class Tax:
    def of(self, n):
        return n * RATE

def tax(n):
    return n * RATE
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, -1).result()  # its processes are no test's
        yield executor


def loaded(path: Path, name: str) -> ModuleType:
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check(pool: mh.ProcessPoolExecutor, plugin: Any) -> None:
    assert pool.submit(plugin.tax, 2).result() == 38
    assert pool.submit(plugin.Tax().of, 2).result() == 38
    assert pool.submit(lambda: plugin.tax(2)).result() == 38
    assert pool.submit(lambda tax: tax.of(2), plugin.Tax()).result() == 38
    assert list(pool.map(plugin.tax, [1, 2])) == [19, 38]


def test_a_module_that_was_loaded_from_a_file(
    pool: mh.ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(pool, loaded(tmp_path / "tax plugin.py", "plugin_from_a_file"))
    monkeypatch.delitem(sys.modules, "plugin_from_a_file")


def test_a_module_that_was_made_at_run_time(
    pool: mh.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("made_at_run_time")
    monkeypatch.setitem(sys.modules, "made_at_run_time", module)
    exec(SOURCE, module.__dict__)
    check(pool, module)


def test_a_module_that_was_made_of_a_file(
    pool: mh.ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("made_of_a_file", "no_package.made_of_a_file"):
        module = ModuleType(name)
        module.__file__ = str(tmp_path / "elsewhere.py")
        monkeypatch.setitem(sys.modules, name, module)
        exec(SOURCE, module.__dict__)
        check(pool, module)


@pytest.mark.parametrize("name", ["<run_path>", "run_by_path"])
def test_a_script_that_is_run_by_its_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        SOURCE
        + """
import manyhands as mh

with mh.ProcessPoolExecutor(1) as pool:
    results = [*pool.map(tax, [1, 2]), pool.submit(lambda tax: tax.of(3), Tax()).result()]
    assert type(pool.submit(Tax).result()) is Tax
del pool
"""
    )
    assert runpy.run_path(str(path), run_name=name)["results"] == [19, 38, 57]


def test_a_module_that_was_registered(
    pool: mh.ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "taxes_of_land.py").write_text(SOURCE)
    module = importlib.import_module("taxes_of_land")
    monkeypatch.setitem(sys.modules, "taxes_of_land", module)
    # The workers were started before: they look in other places.
    with pytest.raises(ModuleNotFoundError) as caught:
        pool.submit(module.tax, 2).result()
    assert "mh.register_by_value(taxes_of_land)" in "".join(caught.value.__notes__)
    mh.register_by_value(module)
    try:
        check(pool, module)
        assert pickle.loads(pickle.dumps(module.tax)) is module.tax
    finally:
        mh.unregister_by_value(module)


def test_a_reload_is_sent_along(
    pool: mh.ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "taxes_that_change.py"
    path.write_text(SOURCE)
    module = importlib.import_module("taxes_that_change")
    monkeypatch.setitem(sys.modules, "taxes_that_change", module)
    mh.register_by_value(module)
    try:
        assert pool.submit(module.tax, 2).result() == 38
        path.write_text(SOURCE.replace("19", "7"))
        importlib.reload(module)
        assert pool.submit(module.tax, 2).result() == 14
    finally:
        mh.unregister_by_value(module)


def test_what_cannot_be_registered_says_why() -> None:
    with pytest.raises(TypeError, match="a module is needed, not str"):
        mh.register_by_value("json")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not in sys\.modules: import it first"):
        mh.register_by_value(ModuleType("nowhere"))
    with pytest.raises(ValueError, match="not registered"):
        mh.unregister_by_value(pickle)
    with pytest.raises(ValueError, match="importable in every worker"):
        mh.register_by_value(mh)


def test_modules_of_all_kinds_are_found() -> None:
    import xml.etree.ElementTree  # noqa: F401 - a package's module

    import numpy as np  # noqa: F401 - modules in C, made by hand, in packages

    from manyhands._pickle import findable

    findable._new_modules.look()
    known = {
        name for name in findable._missing if name.partition(".")[0] in sys.stdlib_module_names
    }
    assert known == set()
    assert not {name for name in findable._missing if name.startswith("numpy")}
