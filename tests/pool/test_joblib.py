"""The joblib backend: our own checks, then joblib's own suite on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rules import ROOT

joblib = pytest.importorskip("joblib")
backend_module = pytest.importorskip("manyhands.joblib")

from joblib import Parallel, delayed  # noqa: E402 - joblib may not be there

WORKERS = ["process", "thread"]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Has the backend known to joblib; afterwards ends the workers that it keeps for later."""
    backend_module.register()
    yield
    while backend_module._kept:
        backend_module._kept.pop()[1].shutdown()


def square(number: int) -> int:
    return number * number


def pid(_: object = None) -> int:
    return os.getpid()


def fail_at(bad: int, number: int) -> int:
    if number == bad:
        raise ZeroDivisionError(number)
    return number


def fail_or_sleep(number: int) -> None:
    if fail_at(1, number) == 0:
        time.sleep(120)


def nested(count: int) -> list[int]:
    return list(Parallel(n_jobs=2, backend="manyhands")(delayed(square)(n) for n in range(count)))


@pytest.mark.on_each_python
@pytest.mark.parametrize("enter", [joblib.parallel_backend, joblib.parallel_config])
@pytest.mark.parametrize("workers", WORKERS)
def test_results_come_in_order(enter: Any, workers: str) -> None:
    with enter(backend="manyhands", n_jobs=2, workers=workers):
        assert Parallel()(delayed(square)(n) for n in range(500)) == [n * n for n in range(500)]


def test_calls_run_in_worker_processes() -> None:
    with joblib.parallel_backend("manyhands", n_jobs=2):
        pids = set(Parallel()(delayed(pid)() for _ in range(50)))
    assert os.getpid() not in pids
    assert len(pids) <= 2


def test_workers_are_kept_from_call_to_call() -> None:
    seen: set[int] = set()
    for _ in range(3):
        with joblib.parallel_backend("manyhands", n_jobs=2):
            seen |= set(Parallel()(delayed(pid)() for _ in range(20)))
    assert len(seen) <= 2


@pytest.mark.on_each_python
def test_lambdas_and_closures() -> None:
    offset = 4
    with joblib.parallel_backend("manyhands", n_jobs=2):
        assert Parallel()(delayed(lambda n: n + offset)(n) for n in range(5)) == [4, 5, 6, 7, 8]


@pytest.mark.on_each_python
@pytest.mark.parametrize("workers", WORKERS)
def test_an_error_is_raised_and_the_backend_goes_on(workers: str) -> None:
    with joblib.parallel_backend("manyhands", n_jobs=2, workers=workers):
        with pytest.raises(ZeroDivisionError, match="7"):
            Parallel()(delayed(fail_at)(7, n) for n in range(100))
        assert Parallel()(delayed(square)(n) for n in range(5)) == [0, 1, 4, 9, 16]


def test_an_error_ends_what_is_running() -> None:
    began = time.monotonic()
    with joblib.parallel_backend("manyhands", n_jobs=2):
        with pytest.raises(ZeroDivisionError):
            Parallel(batch_size=1)(delayed(fail_or_sleep)(n) for n in range(2))
        # The worker that slept is free again, or replaced.
        assert Parallel()(delayed(square)(n) for n in range(4)) == [0, 1, 4, 9]
    assert time.monotonic() - began < 55


def test_a_timeout_is_a_timeout() -> None:
    import multiprocessing

    with joblib.parallel_backend("manyhands", n_jobs=2):
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.2)(delayed(time.sleep)(seconds) for seconds in (0, 60))


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators(return_as: str) -> None:
    with joblib.parallel_backend("manyhands", n_jobs=2):
        results = Parallel(return_as=return_as)(delayed(square)(n) for n in range(20))
        assert sorted(results) == [n * n for n in range(20)]


class Counted:
    """Counts how often it is pickled."""

    times = 0

    def __reduce__(self) -> tuple[object, ...]:
        type(self).times += 1
        return str, ("counted",)


def take(thing: object, word: str) -> tuple[object, str]:
    return thing, word


@pytest.mark.on_each_python
@pytest.mark.parametrize("word", ["any", "__main__"])
def test_a_batch_is_pickled_once(word: str) -> None:
    # scikit-learn sends the warning filters along, in which "__main__" stands.
    Counted.times = 0
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        found = Parallel(batch_size=1)(delayed(take)(Counted(), word) for _ in range(6))
    assert found == [("counted", word)] * 6
    assert Counted.times == 6


@pytest.mark.on_each_python
def test_calls_may_be_nested() -> None:
    with joblib.parallel_backend("manyhands", n_jobs=2):
        assert Parallel()(delayed(nested)(n) for n in range(4)) == [
            [n * n for n in range(count)] for count in range(4)
        ]


def test_calls_from_several_threads() -> None:
    results: list[list[int]] = []

    def call() -> None:
        results.append(Parallel(n_jobs=2, backend="manyhands")(delayed(square)(n) for n in [2, 3]))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[4, 9]] * 4


@pytest.mark.parametrize(("inner", "expected"), [(1, "1"), (3, "3")])
def test_inner_threads_are_limited(
    inner: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with joblib.parallel_config(backend="manyhands", n_jobs=2):
        assert Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in "ab") == ["7", "7"]
    with joblib.parallel_config(backend="manyhands", n_jobs=2, inner_max_num_threads=inner):
        seen = Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in "ab")
    assert seen == [expected, expected]


@pytest.mark.parametrize(("n_jobs", "expected"), [(3, 3), (1, 1), (None, 1)])
def test_effective_n_jobs(n_jobs: int | None, expected: int) -> None:
    assert backend_module.ManyhandsBackend().effective_n_jobs(n_jobs) == expected


def test_negative_n_jobs_count_from_the_cpus() -> None:
    backend = backend_module.ManyhandsBackend()
    cpus = len(os.sched_getaffinity(0))
    assert backend.effective_n_jobs(-1) == cpus
    assert backend.effective_n_jobs(-cpus - 5) == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="'thread', 'process', got 'fork'"):
        backend_module.ManyhandsBackend(workers="fork")
    with pytest.raises(RuntimeError, match="terminated"):
        backend_module.ManyhandsBackend().submit(pid)


def test_no_more_than_a_few_executors_are_kept() -> None:
    for n_jobs in range(2, 9):
        with joblib.parallel_backend("manyhands", n_jobs=n_jobs, workers="thread"):
            assert Parallel()(delayed(square)(n) for n in range(3)) == [0, 1, 4]
    assert len(backend_module._kept) == backend_module._KEPT


@pytest.mark.borrowed
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_suite_of_joblib_itself(tmp_path: Path) -> None:
    if find_spec("joblib.test.test_parallel") is None:
        pytest.skip("joblib was installed without its tests")
    here = str(ROOT / "tests" / "conformance")
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    command = [
        *(sys.executable, "-m", "pytest", "--pyargs", "joblib.test.test_parallel"),
        *("-c", os.devnull, f"--rootdir={tmp_path}", "-p", "joblib_suite"),
        *("-p", "no:cacheprovider", "--timeout=120", "-q", "-rfE"),
    ]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ended.stdout)
    assert passed is not None
    assert int(passed[1]) > 200
