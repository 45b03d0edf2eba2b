"""The floors of the house: nothing imports what is above it, and no files make a circle.

The order stands here and nowhere else; ARCHITECTURE.md says what each floor is for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping

import pytest

from rules import ROOT, report
from rust_modules import Crate

# From the ground up: each may use those before it.
CRATES = ("os", "sync", "channel", "memory", "pool", "cli", "python")
BINDINGS = ("interpreter", "memory", "codec", "future", "sync", "queue", "pool", "command")
CIRCLE = "files that need each other are one file: move what both need below them"


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
    report(sorted(broken), "who looks for a cause goes down the stairs, and must not come up again")
