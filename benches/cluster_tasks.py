"""The tasks of the cluster benchmarks, as manyhands has them."""

from __future__ import annotations

import manyhands as mh


@mh.task
def identity(value: int) -> int:
    """Return `value`."""
    return value
