"""Which files of a Rust crate use which others, read from the paths in their text.

A file and the folder of its name are one room: `home.rs` may use what is in `home/`, and those may
use what `home.rs` declares. So an arrow goes from one child of a module to another one, whatever is
inside of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

Module = tuple[str, ...]
Names = tuple[str, ...]

USE = re.compile(r"(?m)^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])((?:crate|super|self)(?:::\w+)+)")
DECLARATION = re.compile(r"(?m)^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?mod (\w+);")


def without_comments(text: str) -> str:
    return re.sub(r"(?m)//.*$", "", text)


def without_tests(text: str) -> str:
    """Leave out the items that only tests have."""
    kept: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not re.match(r"\s*#\[cfg\((all\()?test\b", line):
            kept.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        for inside in lines:
            if inside.startswith((f"{indent}}}", f"{indent})")) or (
                inside.endswith(";") and len(inside) - len(inside.lstrip()) == len(indent)
            ):
                break
    return "\n".join(kept)


def used_paths(tree: str, before: Names = ()) -> Iterator[tuple[Names, str]]:
    """Yield (path, the name it has here) of each leaf of a `use` declaration."""
    tree = tree.strip()
    group = re.fullmatch(r"((?:\w+::)*)\{(.*)\}", tree, re.DOTALL)
    if group is not None:
        path = (*before, *filter(None, group[1].split("::")))
        depth, start = 0, 0
        inside = group[2] + ","
        for at, sign in enumerate(inside):
            depth += {"{": 1, "}": -1}.get(sign, 0)
            if sign == "," and depth == 0:
                if inside[start:at].strip():
                    yield from used_paths(inside[start:at], path)
                start = at + 1
        return
    tree, _, alias = tree.partition(" as ")
    names = tuple(part.strip() for part in tree.split("::"))
    if names == ("self",):
        yield before, alias.strip() or before[-1]
    else:
        yield (*before, *names), alias.strip() or names[-1]


class Crate:
    """The modules of one crate."""

    def __init__(self, source: Path) -> None:
        self.files: dict[Module, Path] = {}
        for path in sorted(source.rglob("*.rs")):
            parts = path.relative_to(source).with_suffix("").parts
            if "tests" not in parts:
                self.files[() if parts == ("lib",) else parts] = path
        self.texts = {
            module: without_tests(without_comments(path.read_text(encoding="utf-8")))
            for module, path in self.files.items()
        }
        self._uses = cache(self._read_uses)

    def children(self, module: Module) -> set[str]:
        return {
            other[-1]
            for other in self.files
            if len(other) == len(module) + 1 and other[:-1] == module
        }

    def _read_uses(self, module: Module) -> list[tuple[Names, str]]:
        return [leaf for tree in USE.findall(self.texts[module]) for leaf in used_paths(tree)]

    def absolute(self, module: Module, path: Names) -> Names | None:
        """Return a path from the crate's root on; None when it goes to another crate."""
        here = module
        if path[0] == "crate":
            return path[1:]
        if path[0] in ("self", "super"):
            while path and path[0] in ("self", "super"):
                here = here[:-1] if path[0] == "super" else here
                path = path[1:]
            return (*here, *path)
        if path[0] in self.children(module):
            return (*module, *path)
        return None

    def home(self, path: Names, seen: frozenset[Names] = frozenset()) -> Module:
        """Return the module that defines what a path from the root means, through `use`."""
        module: Module = ()
        for at, name in enumerate(path):
            if (*module, name) in self.files:
                module = (*module, name)
                continue
            for leaf, alias in self._uses(module):
                target = self.absolute(module, leaf)
                if alias == name and target is not None and target not in seen:
                    return self.home((*target, *path[at + 1 :]), seen | {target})
            break
        return module

    def arrows(self) -> Iterator[tuple[Module, Module]]:
        """Yield (user, used) for each pair of different modules."""
        for module, text in self.texts.items():
            paths = [leaf for leaf, _ in self._uses(module)]
            paths += [tuple(found.split("::")) for found in PATH.findall(USE.sub("", text))]
            local = self.children(module)
            paths += [
                tuple(found.split("::"))
                for found in re.findall(r"(?<![\w:])(\w+(?:::\w+)+)", USE.sub("", text))
                if found.split("::")[0] in local
            ]
            for path in set(paths):
                target = self.absolute(module, path)
                if target is not None and (home := self.home(target)) != module:
                    yield module, home

    def rooms(self) -> dict[Module, dict[str, set[str]]]:
        """Return, for each module, which of its children use which others."""
        found: dict[Module, dict[str, set[str]]] = {}
        for module in self.files:
            for child in self.children(module):
                found.setdefault(module, {}).setdefault(child, set())
        for user, used in self.arrows():
            depth = next(
                (at for at, (a, b) in enumerate(zip(user, used, strict=False)) if a != b), None
            )
            if depth is not None:
                found[user[:depth]][user[depth]].add(used[depth])
        return found
