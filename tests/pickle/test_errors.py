"""The exceptions: what code written for the stdlib sees in them, and how they travel."""

from __future__ import annotations

import pickle
import queue
import subprocess
import sys
import traceback
from concurrent.futures.process import BrokenProcessPool

import pytest

import manyhands as mh

MEMBER = mh.DeadlockMember(1, 2, "Lock 'tea'", "line 7")
MADE: list[BaseException] = [
    mh.ManyhandsError("text"),
    mh.WorkerDied("text", "task", 7, None, 9, 1 << 20),
    mh.TaskTimeout("text", "task", 1.5),
    mh.TaskCancelled("text"),
    mh.OwnerDied("text", 7, held=True),
    mh.DeadlockError("text", (MEMBER, MEMBER)),
    mh.ReleaseError("text"),
    mh.ShutDown("text"),
    mh.BrokerError("text"),
    mh.RemoteError("text", "shop.Odd", (1, "two")),
    mh.MaxRetriesExceeded("text"),
    mh.SoftTimeLimitExceeded("text"),
]
# What an `except` of a program that used the standard library before has in mind.
BASES: dict[type[BaseException], tuple[type[BaseException], ...]] = {
    mh.WorkerDied: (mh.ManyhandsError, BrokenProcessPool, RuntimeError),
    mh.TaskTimeout: (mh.ManyhandsError, TimeoutError, OSError),
    mh.OwnerDied: (mh.ManyhandsError,),
    mh.DeadlockError: (mh.ManyhandsError, RuntimeError),
    mh.BrokerError: (mh.ManyhandsError, ConnectionError),
    mh.ReleaseError: (mh.ManyhandsError, RuntimeError, ValueError, AssertionError),
}


def named(error: BaseException) -> str:
    return type(error).__name__


def test_none_is_missing() -> None:
    public = [getattr(mh, name) for name in mh.__all__]
    errors = {each for each in public if isinstance(each, type) and issubclass(each, BaseException)}
    assert errors == {type(error) for error in MADE}


@pytest.mark.parametrize("error", MADE, ids=named)
@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_they_pickle_with_all_they_know(error: BaseException, protocol: int) -> None:
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)


@pytest.mark.parametrize("error", MADE, ids=named)
def test_a_program_that_knows_none_of_them_can_unpickle_them(error: BaseException) -> None:
    code = "import pickle, sys; print(pickle.loads(sys.stdin.buffer.read()))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(error), capture_output=True, timeout=60
    )
    assert (done.stdout, done.stderr) == (b"text\n", b"")


@pytest.mark.parametrize("error", MADE, ids=named)
def test_a_traceback_calls_them_as_users_do(error: BaseException) -> None:
    home = "queue" if type(error) is getattr(queue, "ShutDown", None) else "manyhands"
    assert traceback.format_exception_only(error)[-1] == f"{home}.{named(error)}: text\n"


@pytest.mark.parametrize("kind", BASES, ids=lambda kind: kind.__name__)
def test_old_handlers_catch_them(kind: type[BaseException]) -> None:
    assert all(issubclass(kind, base) for base in BASES[kind])


def test_asking_to_stop_is_no_ordinary_error() -> None:
    assert not issubclass(mh.TaskCancelled, Exception)


def test_members_of_a_circle_pickle_as_they_are() -> None:
    assert pickle.loads(pickle.dumps(MEMBER)) == MEMBER
    assert type(MEMBER).__module__ == "manyhands"
