"""Keys sorted into buckets by ``hash()``: all workers of a program agree, whatever the pool.

Reports: dask#1850, dask#6640, distributed#4141 (group-by gave wrong results), quaterion#16.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import manyhands as mh

KEYS = [f"customer {number}" for number in range(100)]


def nested(key: str) -> tuple[int, int]:
    with mh.ProcessPoolExecutor(1) as pool:
        return hash(key), pool.submit(hash, key).result()


def test_all_pools_have_one_seed() -> None:
    with mh.ProcessPoolExecutor(2, max_tasks_per_child=20) as one, mh.Pool(2) as other:
        hashes = list(one.map(hash, KEYS))
        assert other.map(hash, KEYS) == hashes
        assert mh.map(hash, KEYS, workers="process") == hashes
        assert one.submit(nested, KEYS[0]).result() == (hashes[0], hashes[0])
    mh.shared_pool().shutdown()


def test_programs_have_different_seeds_and_tasks_do_not_see_them() -> None:
    source = (
        "import manyhands as mh, os\n"
        "with mh.ProcessPoolExecutor(1) as pool:\n"
        "    seen = pool.submit(os.getenv, 'PYTHONHASHSEED').result()\n"
        "    print(pool.submit(hash, 'customer').result(), seen, hash('customer'))\n"
    )

    def run(**environment: str) -> list[str]:
        known = {**os.environ, **environment}
        if not environment:
            known.pop("PYTHONHASHSEED", None)
        command = [sys.executable, "-c", source]
        done = subprocess.run(command, capture_output=True, text=True, env=known, check=True)
        return done.stdout.split()

    first, second = run(), run()
    assert first[1] == second[1] == "None"
    assert first[0] != second[0]
    for seed in ("0", "7"):
        worker, seen, here = run(PYTHONHASHSEED=seed)
        assert (worker, seen) == (here, seed)


@pytest.mark.skipif("PYTHONHASHSEED" in os.environ, reason="the seed is set")
def test_a_forked_child_keeps_the_seed() -> None:
    with mh.ProcessPoolExecutor(1) as pool:
        expected = pool.submit(hash, "key").result()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        with mh.ProcessPoolExecutor(1) as pool:
            os.write(writing, str(pool.submit(hash, "key").result()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 100)) == expected
    os.close(reading)
    os.close(writing)
