"""Blocks of `multiprocessing.shared_memory` that a worker makes: they are there after its end.

Reports: python/cpython#82300 (bpo-38119) and #116849: the tracker of the process that made a block
removes it when that process ends.
"""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import manyhands as mh
from multiprocessing import shared_memory

def make():
    block = shared_memory.SharedMemory(create=True, size=100)
    block.buf[0] = 7
    block.close()
    return block.name

with mh.ProcessPoolExecutor(1) as pool:
    name = pool.submit(make).result()
block = shared_memory.SharedMemory(name)
assert block.buf[0] == 7
block.close()
block.unlink()
"""


def test_the_tracker_is_the_parents() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, "")
