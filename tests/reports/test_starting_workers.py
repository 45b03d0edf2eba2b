"""What `statistics` says of a worker whose process does not exist yet.

Found by use: it said pid 0, and ``os.kill(0, …)`` is a signal to the caller's own process group.
"""

from __future__ import annotations

import manyhands as mh


def test_a_worker_that_is_being_started_has_no_pid_yet() -> None:
    with mh.ProcessPoolExecutor(1) as executor:
        future = executor.submit(abs, -1)
        while not future.done():
            for worker in executor.statistics()["workers"]:
                assert worker["pid"] is None or worker["pid"] > 1
        (worker,) = executor.statistics()["workers"]
        assert worker["pid"] > 1
