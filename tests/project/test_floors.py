"""The floors of the house: nothing imports what is above it, and no files make a circle.

The order stands here and nowhere else; ARCHITECTURE.md says what each floor is for.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rules import ROOT, report
from rust_modules import Crate

# From the ground up: each may use those before it.
CRATES = ("os", "sync", "channel", "memory", "pool", "server", "cluster", "cli", "python")
BINDINGS = (
    "interpreter",
    "memory",
    "codec",
    "future",
    "sync",
    "queue",
    "pool",
    "server",
    "cluster",
    "command",
)
PACKAGE = (
    "_interpreter",
    "_errors",
    "_pickle",
    "_sync",
    "_queue",
    "_memory",
    "_worker",
    "_future",
    "_task",
    "_coroutine",
    "_pool",
    "_map",
    "_server",
    "_cluster",
)
# Folders of tests beside those of the package's rooms.
TESTS = ("command", "conformance", "project", "reports", "support")
# Beside the rooms: the package as users see it, its command, and what plugs into other libraries.
TOP = ("", "__main__", "demo", "joblib", "server")
CIRCLE = "files that need each other are one file: move what both need below them"
STAIRS = "who looks for a cause goes down the stairs, and must not come up again"


def circles(arrows: Mapping[str, set[str]]) -> list[str]:
    """Return one line for each circle that a walk along the arrows finds."""
    found: list[str] = []
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append(" → ".join([*way[way.index(name) :], name]))
        elif name not in done:
            for other in sorted(arrows.get(name, ())):
                walk(other, [*way, name])
            done.add(name)

    for name in sorted(arrows):
        walk(name, [])
    return found


def test_crates_stand_on_those_below() -> None:
    broken = []
    for path in sorted((ROOT / "crates").iterdir()):
        if path.name not in CRATES:
            broken.append(f"crates/{path.name} has no floor: put it into CRATES")
            continue
        table = tomllib.loads((path / "Cargo.toml").read_text(encoding="utf-8"))
        ours = {name.removeprefix("manyhands-") for name in table.get("dependencies", {})}
        above = ours & set(CRATES[CRATES.index(path.name) :])
        broken += [f"crates/{path.name} depends on crates/{name}" for name in sorted(above)]
    report(broken, "a layer that knows the one above cannot be understood, or tested, alone")


@pytest.mark.parametrize("name", CRATES)
def test_no_circle_of_files_in_a_crate(name: str) -> None:
    broken = []
    for module, arrows in Crate(ROOT / "crates" / name / "src").rooms().items():
        place = "::".join((f"crates/{name}", *module))
        broken += [f"{place}: {circle}" for circle in circles(arrows)]
    report(broken, CIRCLE)


def test_rooms_of_the_bindings_stand_on_those_below() -> None:
    arrows = Crate(ROOT / "crates" / "python" / "src").rooms()[()]
    unknown = set(arrows) - set(BINDINGS)
    broken = [f"crates/python/src/{name}: put it into BINDINGS" for name in unknown]
    broken += [
        f"crates/python/src/{name} uses {other}, which is above it"
        for name, others in arrows.items()
        for other in others
        if not broken and BINDINGS.index(other) > BINDINGS.index(name)
    ]
    report(sorted(broken), STAIRS)


class Package:
    """The modules of the Python package in a folder, by their names inside of it."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            self.files[".".join(part for part in parts if part != "__init__")] = path
        self.arrows = {name: set(self._used(name)) - {name} for name in self.files}

    def _used(self, name: str) -> Iterator[str]:
        """Yield the modules that one imports or names, wherever and for whatever reason."""
        for node in ast.walk(ast.parse(self.files[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{each.name}" for each in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # What is imported late is named in a text.
                names = [node.value] if node.value.startswith("manyhands._") else []
            else:
                continue
            for each in names:
                package, *inside = each.split(".")
                if package == "manyhands" and inside[:1] != ["_native"]:
                    modules = (".".join(inside[:end]) for end in range(len(inside), -1, -1))
                    yield next(module for module in modules if module in self.files)

    def upward(self) -> list[str]:
        """Return a line for each module that is in no room, or uses one of a room above."""
        found = []
        for name, others in self.arrows.items():
            room = name.split(".")[0]
            if room in TOP:
                continue
            if room not in PACKAGE:
                found.append(f"manyhands.{name} is in no room: put {room} into PACKAGE")
                continue
            for other in sorted(others):
                above = other.split(".")[0]
                if above not in PACKAGE[: PACKAGE.index(room) + 1]:
                    found.append(f"manyhands.{name} uses manyhands.{other}, which is above it")
        return found


def test_rooms_of_the_package_stand_on_those_below() -> None:
    report(Package(ROOT / "python" / "manyhands").upward(), STAIRS)


def test_no_circle_of_files_in_the_package() -> None:
    report(circles(Package(ROOT / "python" / "manyhands").arrows), CIRCLE)


def test_rooms_of_the_package_have_nothing_beside_their_files() -> None:
    broken = [
        f"python/manyhands/{room}/__init__.py"
        for room in PACKAGE
        if (ROOT / "python" / "manyhands" / room / "__init__.py").read_text(encoding="utf-8")
    ]
    report(broken, "whatever stands there is imported by every worker, whether it needs it or not")


def test_tests_are_in_the_rooms_of_what_they_test() -> None:
    rooms = {room.lstrip("_") for room in PACKAGE} | {*TESTS}
    files = (ROOT / "tests").rglob("*.py")
    places = {path.relative_to(ROOT / "tests").parts[:-1] for path in files}
    assert places - {()} == {(room,) for place in places for room in place if room in rooms}
    assert {path.name for path in (ROOT / "tests").glob("*.py")} == {"conftest.py"}


@pytest.mark.parametrize(
    "line",
    [
        "from manyhands._map.map import imap",
        "from manyhands._map import map",
        "import manyhands._map.map",
        "def late():\n    from manyhands._map import map",
        "if TYPE_CHECKING:\n    from manyhands._map.map import Workers",
        "PLACE = 'manyhands._map.map'",
    ],
)
def test_a_module_that_uses_one_above_it_is_found(tmp_path: Path, line: str) -> None:
    for module, text in (("_sync/lock", line), ("_map/map", "")):
        path = tmp_path / f"{module}.py"
        path.parent.mkdir()
        path.write_text(text)
    found = Package(tmp_path).upward()
    assert found == ["manyhands._sync.lock uses manyhands._map.map, which is above it"]


def test_a_room_that_nobody_knows_is_found(tmp_path: Path) -> None:
    (tmp_path / "_attic").mkdir()
    (tmp_path / "_attic" / "box.py").write_text("")
    found = Package(tmp_path).upward()
    assert found == ["manyhands._attic.box is in no room: put _attic into PACKAGE"]


def test_modules_that_use_each_other_are_found(tmp_path: Path) -> None:
    (tmp_path / "_sync").mkdir()
    for name, other in (("lock", "event"), ("event", "door"), ("door", "lock")):
        text = f"from manyhands._sync import {other}"
        (tmp_path / "_sync" / f"{name}.py").write_text(text)
    assert circles(Package(tmp_path).arrows) == [
        "_sync.door → _sync.lock → _sync.event → _sync.door"
    ]
