"""What the Makefile leans on: finding interpreters, making environments, building wheels."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rules import ROOT

sys.path.insert(0, str(ROOT))

from tools import environment, interpreters, rabbitmq, wheels

MINOR = f"3.{sys.version_info.minor}" + "t" * ("t" in sys.abiflags)


def found(*minors: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/interpreters.py"), *minors]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_listed_interpreter_is_what_it_is_listed_as() -> None:
    lines = [line.split(" ", 1) for line in found().stdout.splitlines()]
    assert lines
    assert len({minor for minor, _ in lines}) == len(lines)
    for minor, python in lines:
        ask = "import sys; print('%d.%d' % sys.version_info[:2] + 't' * ('t' in sys.abiflags))"
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == minor


def test_no_interpreter_is_an_error_that_says_so() -> None:
    done = found("3.99")
    assert done.returncode == 1
    assert "no CPython of 3.99 found" in done.stderr


def test_the_python_that_lists_them_comes_first() -> None:
    """It is the one that everything is tested on."""
    listed = [line.split()[0] for line in found().stdout.splitlines()]
    assert listed[0] == MINOR == interpreters.own()
    assert [minor for minor in interpreters.SUPPORTED if minor in listed[1:]] == listed[1:]


def test_borrowed_suites_are_where_make_looks_for_them() -> None:
    (places,) = re.findall(r"^BORROWED := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    borrowed = {
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if "@pytest.mark.borrowed" in path.read_text() and path != Path(__file__)
    }
    assert borrowed
    assert {path.name for path in borrowed if path.parent.name != "conformance"} == {
        *re.findall(r"test_\w+\.py", places)
    }
    assert "tests/conformance" in places


def test_an_interpreter_that_the_user_names_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "bin" / f"python{MINOR}"
    mine.parent.mkdir()
    mine.write_text(
        f"#!/bin/sh\necho '{MINOR}\t0\t{mine}\t0\t0\t0'\n"  # the least complete of all
    )
    mine.chmod(0o755)
    for named in (mine, mine.parent, tmp_path):
        monkeypatch.setenv("MANYHANDS_PYTHONS", f"/nowhere:{named}")
        assert interpreters.best(MINOR) == str(mine)
    monkeypatch.setenv("MANYHANDS_PYTHONS", "/nowhere")
    assert interpreters.best(MINOR) not in (None, str(mine))


def fits(kind: wheels.Kind, minor: str) -> bool:
    """By the rules of the stable ABIs, which pip follows."""
    version, free = int(minor.rstrip("t").partition(".")[2]), minor.endswith("t")
    oldest = int(kind.tags[3:5])
    return (
        kind.tags == f"cp3{version}-cp3{version}t" * free
        or (kind.tags.endswith("-abi3t") and version >= oldest)
        or (kind.tags.endswith("-abi3") and not free and version >= oldest)
    )


@pytest.mark.parametrize("minor", interpreters.SUPPORTED)
def test_each_supported_python_is_given_the_newest_wheel_that_fits(minor: str) -> None:
    fitting = [kind for kind in wheels.KINDS if fits(kind, minor)]
    newest = max(fitting, key=lambda kind: int(kind.tags[3:5]))
    assert [kind for kind in wheels.KINDS if minor in kind.given_to] == [newest]


def collected(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *minors: str
) -> list[tuple[str, wheels.Kind]]:
    """Return what would be built where there is one interpreter, a 3.15t."""
    built: list[tuple[str, wheels.Kind]] = []
    monkeypatch.setattr(interpreters, "best", lambda minor: {"3.15t": "there"}.get(minor))
    monkeypatch.setattr(wheels, "build", lambda _, python, kind, __: built.append((python, kind)))
    monkeypatch.setattr(sys, "argv", ["wheels", "maturin", str(folder), *minors])
    wheels.main()
    return built


def test_wheels_that_cannot_be_built_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "package-1-cp311-abi3-manylinux_2_34_x86_64.whl").touch()
    assert collected(monkeypatch, tmp_path) == [("there", wheels.KINDS[2])]
    assert capsys.readouterr().err.splitlines() == [
        "left out: cp314-cp314t, for free-threaded CPython 3.14: no python3.14t was found"
    ]


def test_only_wheels_for_the_named_pythons_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "package-1-cp311-abi3-manylinux_2_34_x86_64.whl").touch()
    assert collected(monkeypatch, tmp_path, "3.11", "3.13") == []
    assert collected(monkeypatch, tmp_path, "3.11", "3.15") == [("there", wheels.KINDS[2])]
    assert capsys.readouterr().err == ""


def wheel(path: Path, text: str, serial: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/__init__.py", text)
        archive.writestr("package-1.dist-info/sboms/package.json", serial)
    return path


def test_a_wheel_has_changed_when_its_files_have(tmp_path: Path) -> None:
    path = tmp_path / "package.whl"
    one = environment.contents(wheel(path, "x = 1", serial="a"))
    assert environment.contents(wheel(path, "x = 1", serial="b")) == one
    assert environment.contents(wheel(path, "x = 2", serial="a")) != one


def test_an_environment_gets_pip_where_python_brings_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where ensurepip is there, but the file that it would install is not."""
    ran: list[tuple[str, ...]] = []

    def run(*command: str | Path) -> None:
        ran.append(tuple(map(str, command)))
        if "download" in command:
            place = Path(command[command.index("--dest") + 1])
            (place / "pip-99-py3-none-any.whl").touch()

    monkeypatch.setattr(environment, "run", run)
    monkeypatch.setattr(environment, "answers", lambda *command: command[:3] == ("it", "-m", "pip"))
    environment.create(tmp_path / "new", "it")
    assert [command[1:3] for command in ran[:2]] == [("-m", "venv"), ("-m", "pip")]
    assert "--without-pip" in ran[0]
    # Run by the new Python: the one that has fetched it may be too old for that.
    assert ran[2][0] == str(tmp_path / "new/bin/python")
    assert ran[2][1].endswith("/pip-99-py3-none-any.whl/pip")


def test_debian_starts_no_service_that_is_installed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(rabbitmq, "POLICY", policy)
    with rabbitmq.no_service_starts():
        assert subprocess.run([policy, "rabbitmq-server", "start"], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("the machine's own")
    with rabbitmq.no_service_starts():
        pass
    assert policy.read_text() == "the machine's own"
