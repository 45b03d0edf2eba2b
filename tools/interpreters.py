"""Lists the CPythons on this machine that the tests run on, one per minor version and build.

Prints one line for each: the version, with a ``t`` for a free-threaded build, and the path of the
executable. Looks at what ``MANYHANDS_PYTHONS`` names (executables or folders, with colons between),
into pyenv's folder, ``/usr/bin``, ``/usr/local/bin``, ``/opt/*/bin`` and ``PATH``. Of several with
the same version it takes one that ``MANYHANDS_PYTHONS`` names, else the one whose ``test`` package
is complete, because part of the tests comes from there. The version that runs this comes first,
because everything is tested on the first one.

Usage: ``python tools/interpreters.py [3.11 3.14t ...]``
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = ("3.11", "3.12", "3.13", "3.14", "3.15", "3.14t", "3.15t")

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
print("%d.%d" % sys.version_info[:2] + "t" * ("t" in sys.abiflags), sys.version_info[2],
      sys.executable, int(has("test.test_concurrent_futures")), int(has("test.test_asyncio")),
      int(has("ensurepip")), sep="\\t")
"""


def named(minor: str) -> Iterator[Path]:
    """Yield what MANYHANDS_PYTHONS names and may be a CPython of this version."""
    for entry in filter(None, os.environ.get("MANYHANDS_PYTHONS", "").split(os.pathsep)):
        path = Path(entry).expanduser()
        if path.is_dir():
            names = (f"python{minor}", "python3", f"bin/python{minor}", "bin/python3")
            yield from (path / name for name in names if (path / name).exists())
        else:
            yield path


def candidates(minor: str) -> Iterator[Path]:
    """Yield every other file that may be a CPython of this version, best known places first."""
    name = f"python{minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob(f"versions/{minor.rstrip('t')}*/bin/{name}"))
    folders = ["/usr/bin", "/usr/local/bin", *sorted(map(str, Path("/opt").glob("*/bin")))]
    for folder in [*folders, *os.environ.get("PATH", "").split(os.pathsep)]:
        path = Path(folder, name)
        if folder and path.exists():
            yield path


def answer(path: Path, minor: str) -> tuple[tuple[int, ...], str] | None:
    """Return how complete a CPython is, and its executable; None if it is not of this version."""
    try:
        done = subprocess.run(
            [path, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return None
    fields = done.stdout.strip().split("\t")
    if done.returncode != 0 or len(fields) != 6 or fields[0] != minor:
        return None
    _, patch, executable, *has = fields
    return tuple(int(each) for each in [*has, patch]), executable


def best(minor: str) -> str | None:
    """Return the executable to test this version with, or None where there is none."""
    for places in (named(minor), candidates(minor)):
        found = [answer(path, minor) for path in dict.fromkeys(places)]
        if any(found):
            return max(each for each in found if each is not None)[1]
    return None


def own() -> str:
    """Return the version of the Python that runs this."""
    return f"3.{sys.version_info.minor}" + "t" * ("t" in sys.abiflags)


def main() -> int:
    wanted = sys.argv[1:] or SUPPORTED
    count = 0
    for minor in sorted(wanted, key=lambda minor: minor != own()):
        executable = best(minor)
        if executable is not None:
            print(minor, executable)
            count += 1
    if count == 0:
        print(f"no CPython of {', '.join(wanted)} found", file=sys.stderr)
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
