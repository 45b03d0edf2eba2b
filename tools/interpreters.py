"""Lists the CPythons on this machine that the tests run on, one per minor version.

Prints one line for each: the version and the path of the executable. Looks into pyenv's folder,
``/usr/bin``, ``/usr/local/bin`` and ``PATH``. Of several with the same minor version it takes the
one whose ``test`` package is complete, because part of the tests comes from there.

Usage: ``python tools/interpreters.py [3.11 3.12 ...]``
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13")

# Runs in the candidate: a pyenv shim exists for versions that are not active and then fails,
# so only an answer counts.
_QUESTION = """
import importlib.util as util, sys
def has(name):
    try:
        return util.find_spec(name) is not None
    except ImportError:
        return False
assert sys.implementation.name == "cpython"
print("%d.%d" % sys.version_info[:2], sys.version_info[2], sys.executable,
      int(has("test.test_concurrent_futures")), int(has("test.test_asyncio")),
      int(has("ensurepip")), sep="\\t")
"""


def candidates(minor: str) -> Iterator[Path]:
    """Yields every file that may be a CPython of this minor version, best known places first."""
    name = f"python{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{minor}.*/bin/{name}"))
    folders = ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]
    for folder in folders:
        path = Path(folder, name)
        if folder and path.exists():
            yield path


def best(minor: str) -> str | None:
    """Returns the executable to test this minor version with, or None where there is none."""
    found: list[tuple[tuple[int, ...], str]] = []
    for path in dict.fromkeys(candidates(minor)):
        answer = subprocess.run(
            [path, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=60, check=False
        )
        fields = answer.stdout.strip().split("\t")
        if answer.returncode != 0 or len(fields) != 6 or fields[0] != minor:
            continue
        _, patch, executable, *has = fields
        found.append((tuple(int(each) for each in [*has, patch]), executable))
    return max(found)[1] if found else None


def main() -> int:
    wanted = sys.argv[1:] or SUPPORTED
    count = 0
    for minor in wanted:
        executable = best(minor)
        if executable is not None:
            print(minor, executable)
            count += 1
    if count == 0:
        print(f"no CPython of {', '.join(wanted)} found", file=sys.stderr)
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
