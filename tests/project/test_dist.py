"""What users install: the wheel in an environment of its own, and the source archive."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from tools import environment

from rules import ROOT

pytestmark = pytest.mark.dist

# Systems with a kernel as old as we need have this C library, or a newer one.
NEWEST_GLIBC = (2, 35)

USE = """
import manyhands as mh

if __name__ == "__main__":
    with mh.ProcessPoolExecutor(2) as pool:
        assert pool.submit(lambda n: n + 1, 1).result(30) == 2
    with mh.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    queue, lock = mh.Queue(), mh.Lock()
    with lock:
        queue.put("there")
    print(queue.get(), mh.__version__)
"""


def ran(*command: str | Path, **more: str) -> str:
    """Run a command without what this process has found; return what it printed."""
    without = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    variables = {name: value for name, value in os.environ.items() if name not in without} | more
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=variables
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def wheel() -> Path:
    """Return the wheel that this environment has been given."""
    found = sorted((ROOT / "target" / "wheels").glob("manyhands-*-abi3-*.whl"))
    assert len(found) == 1, "make test-dist builds the wheel first"
    return found[0]


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """Return the folder of an unpacked source archive."""
    maturin = Path(sys.executable).with_name("maturin")
    ran(maturin, "sdist", "--manifest-path", ROOT / "crates/python/Cargo.toml", "--out", tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    return tmp_path / archive.name.removesuffix(".tar.gz")


def test_the_wheel_needs_no_newer_system_than_its_name_says(wheel: Path) -> None:
    report = ran(sys.executable, "-m", "auditwheel", "show", wheel)
    found = re.search(r'platform\s+tag:\s+"manylinux_(\d+)_(\d+)_\w+"', report)
    assert found, report
    needed = (int(found[1]), int(found[2]))
    named = re.search(r"manylinux_(\d+)_(\d+)_", wheel.name)
    assert named, f"{wheel.name} may be installed on no system but this one"
    assert needed <= (int(named[1]), int(named[2])) <= NEWEST_GLIBC


def test_the_metadata_is_whole(wheel: Path, sdist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Author"] == "The manyhands developers"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert metadata["Summary"]
    assert len(metadata["Keywords"].split(",")) >= 5
    assert "# manyhands" in metadata.get_payload()
    urls = {
        name: place
        for name, _, place in (url.partition(", ") for url in metadata.get_all("Project-URL", []))
    }
    assert {"Documentation", "Changelog"} <= urls.keys()
    for place in (*urls.values(), *metadata.get_all("License-File", []), "Cargo.lock"):
        assert (sdist / place).is_file()


@pytest.mark.timeout(300)  # pip makes an environment and looks at the index
def test_the_wheel_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clean"
    environment.create(folder, sys._base_executable)  # type: ignore[attr-defined]
    python = folder / "bin/python"
    # With what it depends on, as a user has it; nothing else is there.
    ran(python, "-m", "pip", "install", "--quiet", wheel)
    ran(python, "-m", "pip", "check")
    packages = ran(python, "-m", "pip", "list", "--format=freeze").split()
    assert {line.split("==")[0] for line in packages} <= {
        "manyhands",
        "cloudpickle",
        "pip",
        "setuptools",
    }
    program = tmp_path / "program.py"
    program.write_text(USE)
    version = ran(folder / "bin/manyhands", "--version").split()[-1]
    assert ran(python, "-W", "error", program).split() == ["there", version]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_source_archive_builds_without_a_network(sdist: Path, wheel: Path) -> None:
    """With the crates of its lock file, which are on this machine once the wheel has been built."""
    ran(
        sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index",
        "--wheel-dir", sdist / "built", sdist,
        CARGO_NET_OFFLINE="true", CARGO_TARGET_DIR=str(ROOT / "target" / "sdist"),
    )  # fmt: skip
    (built,) = (sdist / "built").glob("*.whl")
    with zipfile.ZipFile(built) as ours, zipfile.ZipFile(wheel) as theirs:
        assert sorted(ours.namelist()) == sorted(theirs.namelist())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_crates_that_need_no_python_can_be_published(tmp_path: Path) -> None:
    crates = [f"--package=manyhands-{name}" for name in ("os", "sync", "channel", "memory", "pool")]
    done = subprocess.run(
        ["cargo", "package", "--locked", "--offline", "--allow-dirty", *crates],
        cwd=ROOT,
        env={**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "crates")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
