"""What parent, zygote and workers must know alike; the facts are in crates/pool/src."""

from typing import Any, Final

VERSION: Final[str]
CONTROL_FD: Final[int]
SEGMENT_FD: Final[int]
INHERITED_FD: Final[int]
WORKER_PIPES: Final[int]
LONGEST_PACKET: Final[int]
REPORT_BROKEN: Final[bytes]
REPORT_LOG: Final[bytes]
REPORT_SHORTAGE: Final[bytes]
REPORT_WARNING: Final[bytes]

def report_frame(kind: bytes, payload: bytes, /) -> bytes | None:
    """Return a report as it goes through a worker's pipe; None if it is too long for it."""

def read_request(packet: bytes, /) -> tuple[str, tuple[Any, ...]]:
    """Return what a zygote is asked for, and what goes with it.

    Raises:
        ValueError: it is no packet of a parent's.
    """

def say_ready() -> bytes:
    """Return the packet of a zygote that is ready."""

def say_failed(text: bytes, /) -> bytes:
    """Return the packet of a zygote that could not be set up; of a long text it has the end."""

def say_started(participant: int, generation: int, pid: int, /) -> bytes:
    """Return the packet about a worker that has started."""

def say_not_forked(participant: int, generation: int, errno: int, /) -> bytes:
    """Return the packet about a worker that could not be forked."""

def say_ended(
    participant: int, generation: int, pid: int, wait_status: int, rss_bytes: int, /
) -> bytes:
    """Return the packet about a worker that has ended."""
