"""`task`: a function with a name under which others can run it, and what it knows of its run."""

from __future__ import annotations

import pickle
import uuid

import pytest

import manyhands as mh
from manyhands._cluster.attempt import Retry
from manyhands._cluster.signature import Signature


@mh.task
def add(a: int, b: int) -> int:
    return a + b


@mh.task(bind=True, max_retries=1, retry_delay=5.0, name="others.patient")
def patient(attempt: mh.Attempt, fails: bool) -> int:
    if fails:
        attempt.retry(countdown=2.0)
    return attempt.retries


def attempt(retries: int) -> mh.Attempt:
    return mh.Attempt("others.patient", 1, 5.0, str(uuid.uuid4()), retries=retries)


def test_a_task_is_called_like_its_function() -> None:
    assert add(2, 3) == 5
    assert (add.name, patient.name) == (f"{__name__}.add", "others.patient")
    assert repr(add) == f"<task {__name__}.add>"
    assert pickle.loads(pickle.dumps(add)) is add


def test_a_task_asks_to_be_run_again_as_often_as_it_may() -> None:
    assert patient.call(attempt(0), (False,), {}) == 0
    with pytest.raises(Retry) as asked:
        patient.call(attempt(0), (True,), {})
    assert asked.value.when == 2.0
    with pytest.raises(mh.MaxRetriesExceeded, match="as often as it may: 1"):
        patient.call(attempt(1), (True,), {})


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two functions have the name"):
        mh.task(name=add.name)(lambda: None)


def test_what_cannot_be_sent_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match="open a ClusterExecutor first"):
        add.delay(1, 2)
    with pytest.raises(RuntimeError, match="open a ClusterExecutor first"):
        (add.signature(1, 2) | add.signature(3)).delay()


def test_calls_in_a_row_are_a_chain() -> None:
    one, two, three = add.signature(1, 2), add.signature(3), Signature("others.show")
    assert (one | two | three).steps == (one | (two | three)).steps == (one, two, three)
    assert one.as_dict()["args"] == [1, 2]


def test_a_step_of_a_chain_goes_to_the_tasks_own_queue() -> None:
    slow = mh.task(name="others.slow", queue="slow")(lambda: None)
    assert slow.signature().as_dict()["options"] == {"queue": "slow"}
    assert add.signature().as_dict()["options"] == {}
