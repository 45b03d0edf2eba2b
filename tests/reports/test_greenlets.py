"""Threads that gevent or eventlet have replaced by greenlets: an error that says so, no hang.

Reports: gevent#936, #1251, #1876 and #2017, eventlet#425 and #508. A greenlet that waits as threads
do never lets the one run that it waits for.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

import manyhands as mh


@pytest.mark.parametrize(
    ("name", "asked", "module", "advice"),
    [
        ("gevent.monkey", "is_module_patched", "threading", "gevent.monkey.patch_all"),
        ("eventlet.patcher", "is_monkey_patched", "thread", "eventlet.monkey_patch"),
    ],
)
@pytest.mark.parametrize("executor", [mh.ThreadPoolExecutor, mh.ProcessPoolExecutor])
def test_they_are_refused(
    monkeypatch: pytest.MonkeyPatch, executor: Any, name: str, asked: str, module: str, advice: str
) -> None:
    library = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, library)
    patched = {module}
    monkeypatch.setattr(library, asked, patched.__contains__, raising=False)
    with executor(1) as pool:
        with pytest.raises(RuntimeError, match=rf"greenlets.* {advice}\(thread=False\)"):
            pool.submit(abs, -1)
        patched.clear()  # only other modules are patched
        assert pool.submit(abs, -1).result() == 1
