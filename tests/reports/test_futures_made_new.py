"""``Future.__init__`` called again makes a future new: programs keep one object for many results.

Report: the suites of pebble and of other pools, which the standard library's Future passes.
"""

from __future__ import annotations

import concurrent.futures

import pytest

import manyhands as mh


@pytest.mark.parametrize("kind", [mh.Future, concurrent.futures.Future])
def test_another_init_makes_a_future_pending(kind: type[concurrent.futures.Future[int]]) -> None:
    future = kind()
    heard: list[int] = []
    future.add_done_callback(lambda each: heard.append(each.result()))
    future.set_result(1)
    future.__init__()  # type: ignore[misc]
    assert not future.done() and not future.cancelled() and not future.running()
    future.set_result(2)
    assert (future.result(), heard) == (2, [1])
    future.__init__()  # type: ignore[misc]
    assert future.cancel()
    future.__init__()  # type: ignore[misc]
    future.set_exception(KeyError("k"))
    assert isinstance(future.exception(), KeyError)


def test_the_future_of_a_task_stays_what_it_is() -> None:
    with mh.ThreadPoolExecutor(1) as pool:
        future = pool.submit(abs, -1)
        with pytest.raises(RuntimeError, match="cannot be initialized again"):
            future.__init__()  # type: ignore[misc]
        assert future.result() == 1
