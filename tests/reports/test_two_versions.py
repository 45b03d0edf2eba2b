"""Two versions of manyhands that open the same name: an error that says both, never misread items.

Found by review: only the layout of queues had a version, not what is written into them.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import manyhands as mh


@pytest.fixture
def name() -> str:
    return f"report {uuid.uuid4().hex}"


def memory_of(name: str) -> Path:
    """Return the memory of the named object that this process has."""
    for file in Path("/proc/self/fd").iterdir():
        if file.exists() and str(file.readlink()).endswith(f":{name} (deleted)"):
            return file
    raise LookupError(name)


def overwrite(name: str, at: int, content: bytes) -> None:
    descriptor = os.open(memory_of(name), os.O_RDWR)
    os.pwrite(descriptor, content, at)
    os.close(descriptor)


@pytest.mark.parametrize("kind", [mh.Queue, mh.Lock])
def test_another_version_on_the_same_name_is_told_both(kind: type, name: str) -> None:
    thing = kind(name=name)
    address = pickle.dumps(thing)
    overwrite(name, 12, (99).to_bytes(4, "little"))
    overwrite(name, 40, b"9.8.7".ljust(24, b"\0"))
    both = rf"manyhands 9\.8\.7 \(format 99\).* manyhands {mh.__version__} \(format \d+\)"
    with pytest.raises(ValueError, match=both):
        kind(name=name)
    command = [sys.executable, "-c", STRANGER, name, address.hex(), kind.__name__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert len(re.findall(both, done.stdout)) == 2, done.stdout + done.stderr


STRANGER = """
import pickle, sys
import manyhands as mh
for ask in (
    lambda: getattr(mh, sys.argv[3])(name=sys.argv[1]),
    lambda: pickle.loads(bytes.fromhex(sys.argv[2])),
):
    try:
        ask()
    except ValueError as error:
        print(error)
"""


def test_what_is_written_into_a_queue_is_what_the_format_says(name: str) -> None:
    """If this fails, segments need another format (crates/sync/src/site/heading.rs), and this."""
    queue = mh.Queue(name=name)
    queue.put((None, True, -3, 70_000, 0.5, "ä", b"b", ()))
    with open(memory_of(name), "rb") as file:
        file.seek(12)
        assert int.from_bytes(file.read(4), "little") == 4
        content = file.read(8 << 20)
    code = (
        b"\x07\x08\x00\x01\x08\xfd\x03\x70\x11\x01\0\0\0\0\0"
        b"\x04\0\0\0\0\0\0\xe0\x3f\x05\x02\0\xc3\xa4\x06\x01\0b\x07\x00"
    )
    assert code in content
