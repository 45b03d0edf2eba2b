"""Creates or updates one private Python environment, and does nothing when it is up to date.

Usage: ``python tools/environment.py FOLDER PYTHON [REQUIREMENTS.txt ...] [--wheel FILE ...]``

Works where ``ensurepip`` is missing, as on a Debian without python3-venv: it has the pip of
any interpreter fetch one, and installs the Debian package if it may.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import debian

STAMP = ".ready"


def run(*command: str | Path) -> None:
    """Run a command, show its output, raise if it fails."""
    subprocess.run([str(part) for part in command], check=True)


def answers(*command: str | Path) -> bool:
    """Tells whether a command can be run and succeeds; its output is dropped."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def lender(python: str) -> list[str] | None:
    """Return a command that is a pip of some interpreter, or None."""
    for each in (python, sys.executable, "python3", "/usr/bin/python3"):
        if answers(each, "-m", "pip", "--version"):
            return [each, "-m", "pip"]
    return None


def create(folder: Path, python: str) -> None:
    """Make an empty environment with pip in it; replaces what stands there."""
    if folder.exists():
        shutil.rmtree(folder)
    inside = folder / "bin/python"
    # Some have an ensurepip without the pip that it installs, or with one too old for them.
    if answers(python, "-m", "venv", folder) and answers(inside, "-m", "pip", "--version"):
        return
    pip = lender(python)
    if pip is None:
        install_ensurepip(python)
        run(python, "-m", "venv", "--clear", folder)
        return
    run(python, "-m", "venv", "--clear", "--without-pip", folder)
    # Downloaded, and then run by the Python that it is for: the lender's own may be too old for it.
    with tempfile.TemporaryDirectory() as place:
        run(*pip, "download", "--quiet", "--no-deps", "--dest", place, "pip")
        (wheel,) = Path(place).glob("pip-*.whl")
        run(inside, wheel / "pip", "install", "--quiet", "--no-index", wheel)


def install_ensurepip(python: str) -> None:
    """Installs Debian's package with ensurepip, or says which one to install."""
    ask = "import sys; print('python%d.%d-venv' % sys.version_info[:2])"
    package = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    name = package.stdout.strip()
    if not debian.may_install():
        sys.exit(
            f"{python} has neither ensurepip nor pip, so no private environment can be made.\n"
            f"Install them (on Debian and Ubuntu: sudo apt-get install {name}) and run make again."
        )
    debian.install_package(name, f"{python} has no ensurepip")


def stamp(python: str, files: list[Path]) -> str:
    """Return a line that changes whenever the environment must be rebuilt."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return f"{python} {digest.hexdigest()}\n"


def contents(*wheels: Path) -> str:
    """Return a line that changes when the files of wheels do, but not with their build date."""
    found = []
    for wheel in sorted(wheels):
        with zipfile.ZipFile(wheel) as archive:
            files = [each for each in archive.infolist() if "/sboms/" not in each.filename]
            found.append(
                (
                    wheel.name,
                    {
                        each.filename: each.CRC
                        for each in files
                        if not each.filename.endswith("RECORD")
                    },
                )
            )
    return hashlib.sha256(repr(found).encode()).hexdigest()


def install(python: Path, wheels: list[Path]) -> None:
    """Installs that one of the wheels of a package which pip would choose for this Python."""
    package, version, *_ = wheels[0].name.split("-")
    options = ["--quiet", "--force-reinstall", "--no-deps", "--no-index"]
    folders = {f"--find-links={each.parent.resolve()}" for each in wheels}
    run(python, "-m", "pip", "install", *options, *sorted(folders), f"{package}=={version}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("python")
    parser.add_argument("requirements", type=Path, nargs="*")
    parser.add_argument(
        "--wheel",
        type=Path,
        nargs="+",
        help="wheels of one package, of which the fitting one is installed without dependencies",
    )
    wanted = parser.parse_args()
    folder: Path = wanted.folder
    inside = folder / "bin/python"

    ready = folder / STAMP
    line = stamp(wanted.python, wanted.requirements)
    if not (ready.exists() and ready.read_text() == line and answers(inside, "-c", "")):
        create(folder, wanted.python)
        for file in wanted.requirements:
            run(inside, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", file)
        ready.write_text(line)

    if wanted.wheel is not None:
        installed = folder / ".wheel"
        line = contents(*wanted.wheel)
        if not (installed.exists() and installed.read_text() == line):
            install(inside, wanted.wheel)
            installed.write_text(line)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with status {error.returncode}: {' '.join(error.cmd)}")
