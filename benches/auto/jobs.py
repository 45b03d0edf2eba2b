"""What is mapped: functions of one item, importable, so that they are shipped by reference.

Heavy libraries are imported by whoever needs them, because that is part of a worker's start.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import random
import re
import sqlite3
import subprocess
import time
import urllib.request
import zlib
from pathlib import Path
from typing import Any


def spin(milliseconds: float) -> float:
    """Compute under the GIL for so much CPU time."""
    end = time.thread_time() + milliseconds / 1e3
    while time.thread_time() < end:
        for _ in range(200):
            pass
    return milliseconds


@functools.cache
def words(size: int) -> str:
    """Return `size` random words."""
    draw = random.Random(size)
    return " ".join(f"{draw.choice('abcdef')}{draw.randrange(10**5)}" for _ in range(size))


@functools.cache
def picture() -> bytes:
    """Return a picture of 900 by 900 as JPEG."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((900, 900), 60).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def thumbnail(number: int) -> int:
    """Read a picture, make it smaller, and write it."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(picture())).rotate(number).resize((300, 300))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return len(file.getvalue())


@functools.cache
def document() -> str:
    """Return a JSON document of some hundred kilobytes."""
    return json.dumps([{"id": each, "name": str(each), "tags": ["a", "b"]} for each in range(5000)])


def reread(_: int) -> int:
    """Read a JSON document and write it."""
    return len(json.dumps(json.loads(document())))


def query(path: str) -> int:
    """Ask a database file for a sum over a join, over a connection of its own."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        found = connection.execute(
            "SELECT count(*), sum(a.value * b.value) FROM numbers a JOIN numbers b"
            " ON b.id = (a.id * 7919) % 20000"
        ).fetchone()
    connection.close()
    return int(found[0])


def get(url: str) -> int:
    """Get a page."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return len(answer.read())


def get_and_parse(url: str) -> int:
    """Get a page and compute with it for longer than it took to come."""
    size = get(url)
    spin(15)
    return size


def transform(seed: int) -> float:
    """Sort and transform random numbers with NumPy, most of it without the GIL."""
    import numpy

    numbers = numpy.random.default_rng(seed).random(400_000)
    return float(numpy.abs(numpy.fft.rfft(numpy.sort(numbers))).max())


def middle(array: Any) -> float:
    """Return the median of an array that is an argument: little work for many bytes."""
    import numpy

    return float(numpy.median(array))


def derive(number: int) -> bytes:
    """Derive a key: native code without the GIL."""
    return hashlib.pbkdf2_hmac("sha256", b"secret", str(number).encode(), 15_000)


def find(_: int) -> int:
    """Look for a pattern in a text."""
    return len(re.findall(r"([a-c]\d+) (?:[d-f]\d*7\d*) ", words(150_000)))


def squeeze(number: int) -> int:
    """Compress some text: native code without the GIL."""
    return len(zlib.compress(words(20_000).encode()[number:], 6))


def parse(path: str) -> int:
    """Parse a Python source file."""
    source = Path(path).read_bytes()
    while True:
        try:
            return sum(1 for _ in ast.walk(ast.parse(source)))
        except SystemError as error:
            # Older CPythons count how deep they are in a tree once for all threads.
            if "recursion depth mismatch" not in str(error):
                raise


def wait_then_compute(milliseconds: tuple[float, float]) -> float:
    """Wait, then compute under the GIL."""
    time.sleep(milliseconds[0] / 1e3)
    return spin(milliseconds[1])


def large_result(number: int) -> bytes:
    """Make many bytes, quickly."""
    return bytes([number % 256]) * 4_000_000


def tiny(number: int) -> int:
    """Next to nothing."""
    return number + 1


def run_program(number: int) -> int:
    """Run another program that does not take long."""
    return subprocess.run(["sleep", "0.02"], check=True).returncode + number
