"""Builds every wheel that the interpreters on this machine allow, and says what it leaves out.

One source makes three wheels, which together serve every supported CPython:

- ``cp311-abi3``: 3.11 and newer, with a GIL;
- ``cp314-cp314t``: 3.14, free-threaded;
- ``cp315-abi3t``: 3.15 and newer, of both kinds.

Usage: ``python tools/wheels.py MATURIN FOLDER [3.11 3.14t ...]``. What lies there already is not
built, nor what none of the named Pythons would be given.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import interpreters


@dataclass(frozen=True)
class Kind:
    """One of the wheels."""

    tags: str
    """What its name says it fits, from the Python version on."""
    serves: str
    given_to: tuple[str, ...]
    """The supported CPythons that pip installs it for, when all the wheels are there.

    Any of them can build it, the first that there is does.
    """

    def is_in(self, folder: Path) -> bool:
        """Tells whether it lies there; an abi3t wheel may say that it is an abi3 one as well."""
        version, abi = self.tags.split("-")
        names = [each.name.split("-") for each in folder.glob("*.whl")]
        return any(version == name[-3] and abi in name[-2].split(".") for name in names)


KINDS = (
    Kind("cp311-abi3", "CPython 3.11 and newer, with a GIL", ("3.11", "3.12", "3.13", "3.14")),
    Kind("cp314-cp314t", "free-threaded CPython 3.14", ("3.14t",)),
    Kind("cp315-abi3t", "CPython 3.15 and newer, of both kinds", ("3.15", "3.15t")),
)


def build(maturin: str, python: str, kind: Kind, folder: Path) -> None:
    """Build one wheel, each kind in a folder of its own, so that the next build is quick."""
    command = [maturin, "build", "--release", "--locked", "--strip", "--interpreter", python]
    target = Path("target", kind.tags)
    subprocess.run([*command, "--target-dir", target, "--out", folder], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maturin")
    parser.add_argument("folder", type=Path)
    parser.add_argument("minors", nargs="*", default=interpreters.SUPPORTED)
    wanted = parser.parse_args()
    left_out = []
    for kind in KINDS:
        if kind.is_in(wanted.folder) or not {*kind.given_to} & {*wanted.minors}:
            continue
        found = (interpreters.best(minor) for minor in kind.given_to)
        python = next(filter(None, found), None)
        if python is None:
            needed = " or ".join(f"python{minor}" for minor in kind.given_to)
            left_out.append(f"left out: {kind.tags}, for {kind.serves}: no {needed} was found")
        else:
            build(wanted.maturin, python, kind, wanted.folder)
    # Last, where it is seen.
    for line in left_out:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with status {error.returncode}: {' '.join(map(str, error.cmd))}")
