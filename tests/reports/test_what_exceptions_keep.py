"""Exceptions of maps are no part of a circle: what failed is freed without the garbage collector.

Reports: python/cpython#80111 (bpo-35930), #75430 (bpo-31249) and #131701, joblib#223. A big array
that had been the argument of a failed item stayed until the collector came to look.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import manyhands as mh
from eventually import eventually
from manyhands._worker.interpreter import has_gil


class Big:
    """As an array is."""


def fail(_: Big) -> None:
    raise ValueError


def failed_map(kind: Any, big: Big) -> None:
    mh.map(fail, [big], workers=kind)


def failed_imap(kind: Any, big: Big) -> None:
    list(mh.imap(fail, [big], workers=kind))


def failed_imap_unordered(kind: Any, big: Big) -> None:
    list(mh.imap_unordered(fail, [big], workers=kind))


def failed_executor_map(kind: Any, big: Big) -> None:
    list(mh.shared_pool(workers=kind).map(fail, [big]))


def failed_starmap(kind: Any, big: Big) -> None:
    list(mh.shared_pool(workers=kind).starmap(fail, [(big,)]))


def failed_submit(kind: Any, big: Big) -> None:
    mh.shared_pool(workers=kind).submit(fail, big).result()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    for kind in ("thread", "process"):
        mh.shared_pool(workers=kind).shutdown()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["thread", "process"])
@pytest.mark.parametrize(
    "call",
    [
        failed_map,
        failed_imap,
        failed_imap_unordered,
        failed_executor_map,
        failed_starmap,
        failed_submit,
    ],
)
def test_the_argument_of_a_failed_item_is_freed(
    call: Callable[[Any, Big], None], kind: Any
) -> None:
    big = Big()
    known = weakref.ref(big)
    with pytest.raises(ValueError) as caught:
        call(kind, big)
    del caught, big

    def is_freed() -> bool:
        # Without a GIL a thread frees its own traceback, when it has something to do.
        if not has_gil():
            mh.shared_pool(workers=kind).submit(str).result()
        return known() is None

    eventually(is_freed, "the argument is freed", 5)
