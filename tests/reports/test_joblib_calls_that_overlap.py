"""Calls of joblib's `Parallel` that overlap, under one `parallel_config`.

joblib gives all of them the same backend, and the first to end ends it: with joblib's own backend
the second one fails in a callback, and whoever takes its results waits forever.

Reports: joblib/joblib#588, two generators that share their workers.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

joblib = pytest.importorskip("joblib")

PROGRAM = """
import sys
import joblib
import manyhands.joblib
from joblib import Parallel, delayed

def calls(count):
    return (delayed(abs)(-number) for number in range(count))

def generator(count):
    return Parallel(return_as="generator")(calls(count))

manyhands.joblib.register()
with joblib.parallel_config(backend="manyhands", n_jobs=2):
    CASE
print(len(manyhands.joblib._kept))
"""

CASES = {
    "in step": "print(list(zip(generator(3), generator(3))))",
    "one after the other": "print([sum(each) for each in [generator(50), generator(500)]])",
    "one within a with block": """
    with Parallel() as outer:
        first = sum(outer(calls(50)))
        second = sum(Parallel()(calls(50)))
        print(first, second, sum(outer(calls(50))))
""",
    "one given up": """
    one, other = generator(500), generator(500)
    next(one)
    one.close()
    print(sum(other))
""",
}
EXPECTED = {
    "in step": "[(0, 0), (1, 1), (2, 2)]",
    "one after the other": "[1225, 124750]",
    "one within a with block": "1225 1225 1225",
    "one given up": "124750",
}


@pytest.mark.parametrize("case", CASES)
def test_each_has_its_results_from_the_same_workers(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.replace("CASE", CASES[case].strip())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert done.stdout.splitlines() == [EXPECTED[case], "1"]
