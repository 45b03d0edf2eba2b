"""Two versions of manyhands that open the same name: an error that says both, never misread items.

Found by review: only the layout of queues had a version, not what is written into them.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

import manyhands as mh

PID_BITS = 22


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


def format_of(name: str) -> int:
    with open(memory_of(name), "rb") as file:
        file.seek(12)
        return int.from_bytes(file.read(4), "little")


def test_what_is_written_into_a_queue_is_what_the_format_says(name: str) -> None:
    """If this fails, segments need another format (crates/sync/src/site/heading.rs), and this."""
    queue = mh.Queue(name=name)
    queue.put((None, True, -3, 70_000, 0.5, "ä", b"b", ()))
    assert format_of(name) == 5
    with open(memory_of(name), "rb") as file:
        content = file.read(8 << 20)
    code = (
        b"\x07\x08\x00\x01\x08\xfd\x03\x70\x11\x01\0\0\0\0\0"
        b"\x04\0\0\0\0\0\0\xe0\x3f\x05\x02\0\xc3\xa4\x06\x01\0b\x07\x00"
    )
    assert code in content


class Names(pickle.Unpickler):
    """Collects what a pickle names of ours."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "manyhands":
            self.found.add(f"{module}.{name}")
        return super().find_class(module, name)


def test_what_others_unpickle_has_the_names_that_the_format_says(name: str) -> None:
    """If this fails, segments need another format (crates/sync/src/site/heading.rs), and this."""
    queue = mh.Queue(name=name)
    assert format_of(name) == 5
    ends = mh.Pipe()
    objects = [queue, mh.Lock(), mh.Condition(), mh.Value("i"), mh.Array("i", 1), *ends]
    names = set()
    for thing in [*objects, mh.SharedArray(1), mh.share(b"shared")]:
        reader = Names(pickle.dumps(thing))
        reader.load()
        names |= reader.found
    assert names == {
        "manyhands.Condition",
        "manyhands.Connection",
        "manyhands.Lock",
        "manyhands.Queue",
        "manyhands.RLock",
        "manyhands._memory.shared_array._open",
        "manyhands._memory.shared_bytes._open",
        "manyhands._memory.value._open",
        "manyhands._memory.value._synchronized",
        "manyhands._queue.queue._open",
        "manyhands._sync.primitive._open",
    }


@pytest.mark.on_each_python
def test_waiting_coroutines_are_woken_where_the_format_says(name: str) -> None:
    """If this fails, segments need another format (crates/sync/src/site/heading.rs), and this."""
    queue = mh.Queue(name=name)
    assert format_of(name) == 5

    async def main() -> set[str]:
        waiting = asyncio.ensure_future(queue.async_get())
        await asyncio.sleep(0)
        sockets = re.findall(r"@(manyhands:\w+):([0-9a-f]+):", Path("/proc/net/unix").read_text())
        queue.put("an item")
        assert await waiting == "an item"
        # The number of a process is the low end of what tells it from all others.
        return {kind for kind, who in sockets if int(who, 16) % (1 << PID_BITS) == os.getpid()}

    assert asyncio.run(main()) == {"manyhands:wake"}
