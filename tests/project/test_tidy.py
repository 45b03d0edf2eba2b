"""The rules of the house that no other tool checks. Each says its reason when it is broken."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from rules import ROOT, report

TOP = (
    "crates",
    "python",
    "tests",
    "benches",
    "examples",
    "docs",
    "fuzz",
    "tools",
    "requirements",
    ".ci",
)
TEXT = {".rs", ".py", ".pyi", ".md", ".toml", ".in", ".txt", ".yml", ".sh", ".css"}
NAMELESS = {"Makefile", "run"}  # text files without a suffix
MOST_BYTES = 250_000  # of a file in the repository
MADE = {"__pycache__", "_build", "target", "node_modules"}


def is_text(path: Path) -> bool:
    return path.suffix in TEXT or path.name in NAMELESS


def project_files() -> Iterator[Path]:
    """Yield the text files of the project, without anything that was built."""
    yield from (each for each in ROOT.iterdir() if each.is_file() and is_text(each))
    for folder in TOP:
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT).parts
            if path.is_file() and is_text(path) and not MADE & set(inside):
                yield path


FILES = {path: path.read_text(encoding="utf-8") for path in project_files()}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def of_kind(*suffixes: str, under: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the files with these suffixes below a folder."""
    for path, text in FILES.items():
        if path.suffix in suffixes and named(path).startswith(under):
            yield named(path), text


def without_comments(line: str) -> str:
    return line.split("//", 1)[0]


def of_tests(lines: list[str]) -> set[int]:
    """Return the numbers of a Rust file's lines that are tests; relies on rustfmt's indentation.

    Of the tests is the item that `#[cfg(test)]` stands over, and not what follows it.
    """
    found: set[int] = set()
    for first, line in enumerate(lines):
        mark = re.match(r"(\s*)#!?\[cfg\((all\()?test\b", line)
        if mark is None:
            continue
        if line.lstrip().startswith("#!"):
            return set(range(len(lines)))
        last = first + 1
        while lines[last].lstrip().startswith("#["):
            last += 1
        # An item of several lines ends with the first one that is indented no more than it.
        if not lines[last].endswith((";", "}", "},")):
            last += 1
            while not lines[last] or lines[last].startswith(mark[1] + " "):
                last += 1
        found |= set(range(first, last + 1))
    return found


def code_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line without comment) of a Rust file, without its tests."""
    lines = text.splitlines()
    tests = of_tests(lines)
    for number, line in enumerate(lines):
        if number not in tests:
            yield number + 1, without_comments(line)


def code_with(pattern: re.Pattern[str], sources: Iterable[tuple[str, str]]) -> list[str]:
    """Return the lines of code of Rust files, given by name and text, that have the pattern."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in sources
        for number, line in code_of(text)
        if pattern.search(line)
    ]


def rust_functions(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (first line, length, name); relies on rustfmt's indentation."""
    lines = text.splitlines()
    opening = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |unsafe |extern \"C\" )*fn (\w+)")
    for first, line in enumerate(lines):
        found = opening.match(line)
        if found is None:
            continue
        end = found[1] + "}"
        for last in range(first, len(lines)):
            if lines[last] == end or (last == first and line.endswith(("}", ";"))):
                yield first + 1, last - first + 1, found[2]
                break


def python_functions(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (first line, length without the docstring, name)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                docstring = node.body[0]
                length -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
            yield node.lineno, length, node.name


def test_files_are_short() -> None:
    broken = []
    for name, text in of_kind(".rs", ".py", ".pyi"):
        lines = text.splitlines()
        is_test = name.startswith(("tests/", "benches/")) or "/tests/" in name
        code = len(lines) - (len(of_tests(lines)) if name.endswith(".rs") else 0)
        if code > (800 if is_test else 500) or len(lines) > 800:
            broken.append(f"{name}: {code} lines of code, {len(lines)} in all")
    report(broken, "a file of more than 500 lines (800 with tests) is more than one noun; split it")


def test_what_belongs_to_the_tests_of_a_rust_file_is_known() -> None:
    text = """\
use a;
#[cfg(test)]
mod tests;

fn long() {
    #[cfg(test)]
    probe();
    real();
}

#[cfg(all(test, not(loom)))]
#[path = "here.rs"]
mod other {

    fn f() {}
}
"""
    code = [number for number, _ in code_of(text)]
    assert code == [1, 4, 5, 8, 9, 10]
    assert not list(code_of("#![cfg(test)]\nfn f() {}"))


def test_functions_are_short() -> None:
    broken = [
        f"{name}:{line}: {function} has {length} lines"
        for suffix, functions in ((".rs", rust_functions), (".py", python_functions))
        for name, text in of_kind(suffix)
        for line, length, function in functions(text)
        if length > 70
    ]
    report(broken, "a function of more than 70 lines cannot be seen at once; name its parts")


def test_files_are_named_for_what_they_hold() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    broken = [
        named(path)
        for path in FILES
        if vague & {part.split(".")[0].strip("_") for part in path.relative_to(ROOT).parts}
    ]
    report(broken, "these names fit everything, so everything ends up there")


def test_unsafe_code_stays_where_it_is_looked_for() -> None:
    homes = ("crates/os/", "crates/sync/", "crates/channel/")
    files = "crates/python/src/*/ffi.rs"
    broken = [
        f"{name}:{number}: {line.strip()}"
        for name, text in of_kind(".rs")
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"\bunsafe\b", without_comments(line))
        and not name.startswith(homes)
        and not fnmatch.fnmatch(name, files)
    ]
    report(
        broken, f"unsafe code is reviewed in {', '.join([*homes, files])}; nobody looks elsewhere"
    )


def test_crates_above_os_make_no_system_calls() -> None:
    calls = re.compile(
        r"\b(Instant::now|SystemTime::now|std::(process|fs|net)|thread::sleep|libc::|rustix::)"
    )
    sources = (
        (name, text)
        for name, text in of_kind(".rs", under="crates/")
        # The driver of a link stands on tokio, which has its own clock and its own sockets.
        if not name.startswith(("crates/os/", "crates/cluster/src/link/")) and "/tests/" not in name
    )
    broken = code_with(calls, sources)
    report(broken, "time and the system come from crates/os, so that only one crate must be ported")


def test_the_state_of_a_pool_only_decides() -> None:
    does = re.compile(
        r"\bclock::(now|after|until|thread_time)|\b(procfs|socket|park|poll|process)::|\.(reclaim|allocate|trim|wait|wait_for)\(|\bthread::"
    )
    sources = (
        (name, text)
        for name, text in of_kind(".rs", under="crates/pool/src/state")
        if "/tests" not in name
    )
    broken = code_with(does, sources)
    report(broken, "what it decides can be tested without a system; its driver carries it out")


def test_no_thread_waits_for_another_to_fill_a_cell() -> None:
    waits = re.compile(r"\.get_or_(try_)?init\(\s*py\b|\bOnceLock::import\b|_py_attached\(")
    broken = code_with(waits, of_kind(".rs", under="crates/python/src"))
    report(
        broken,
        "others may fork meanwhile, and in the child it is never filled: get, or make and set",
    )


def test_crates_come_from_the_index_under_licences_that_allow_their_use() -> None:
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    allowed = {*rules["licenses"]["allow"]}
    ask = ["cargo", "metadata", "--locked", "--format-version", "1"]
    answer = subprocess.run(ask, cwd=ROOT, capture_output=True, check=True).stdout
    broken = []
    for crate in json.loads(answer)["packages"]:
        named = f"{crate['name']} {crate['version']}"
        parts = re.sub(r"[()]", "", crate["license"] or "none").split(" AND ")
        if not all(allowed & {*re.split(r" OR |/", part)} for part in parts):
            broken.append(f"{named}: licence {crate['license']}")
        if crate["source"] not in (None, "registry+https://github.com/rust-lang/crates.io-index"):
            broken.append(f"{named}: from {crate['source']}")
    report(broken, "whoever ships our wheel ships these, and must be allowed to")


def test_each_release_names_its_acquire() -> None:
    broken = []
    for name, text in of_kind(".rs", under="crates/"):
        if "/tests/" in name:
            continue
        lines = text.splitlines()
        for number, line in code_of(text):
            if re.search(r"\b(Release|AcqRel)\b(?!<)", line) and "use " not in line:
                nearby = "\n".join(lines[max(0, number - 9) : number])
                if "pairs with" not in nearby:
                    broken.append(f"{name}:{number}: {line.strip()}")
    report(broken, "a Release means nothing without its Acquire: say `// pairs with: function`")


def test_no_rust_file_is_left_out_of_its_crate() -> None:
    broken = []
    for name, _ in of_kind(".rs", under="crates/"):
        path = ROOT / name
        kind, *inside = path.relative_to(ROOT / "crates").parts[1:]
        # What cargo finds by itself.
        if kind not in ("src", "tests") or path.stem in ("lib", "main", "mod"):
            continue
        if kind == "tests" and len(inside) == 1:
            continue
        parents = [path.parent.with_suffix(".rs")]
        parents += (path.parent / f"{stem}.rs" for stem in ("lib", "main", "mod"))
        naming = re.compile(rf"^\s*(?:pub(?:\(.*\))? )?mod {path.stem};", re.MULTILINE)
        if not any(naming.search(FILES.get(parent, "")) for parent in parents):
            broken.append(name)
    report(broken, "no `mod` names it, so nothing compiles it; whoever reads it is misled")


def test_no_python_file_is_dead() -> None:
    words = {path: set(re.findall(r"\w+", text)) for path, text in FILES.items()}
    broken = []
    for name, _ in of_kind(".py"):
        path = ROOT / name
        # What pytest, Sphinx, `python -m` or a reader finds by itself.
        if path.stem.startswith("test_") or path.stem in ("conftest", "conf", "__main__"):
            continue
        called = path.parent.name if path.stem == "__init__" else path.stem
        if not any(called in found for other, found in words.items() if other != path):
            broken.append(name)
    report(broken, "no other file names it, so nothing runs it")


def test_files_are_small() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    broken = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        size = path.stat().st_size if path.is_file() else 0
        if size > MOST_BYTES:
            broken.append(f"{name}: {size / 1000:.0f} kB")
    report(broken, "git keeps every version of it forever, and everybody downloads them all")


def test_nothing_is_left_to_do() -> None:
    words = re.compile(
        r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|\b(un" + r"implemented|to" + r"do)!\("
    )
    broken = [
        f"{name}:{number}: {line.strip()}"
        for name, text in of_kind(".rs", ".py", ".pyi", ".md", ".toml")
        for number, line in enumerate(text.splitlines(), 1)
        if words.search(line)
    ]
    report(broken, "what is unfinished belongs on the tracker, where somebody sees it")


def test_no_path_of_one_machine() -> None:
    places = re.compile(r"(?<![\w.])/(work|ro" + r"ot|home|Users)/")
    broken = [
        f"{named(path)}:{number}: {line.strip()}"
        for path, text in FILES.items()
        if path.name != "test_tidy.py"
        for number, line in enumerate(text.splitlines(), 1)
        if places.search(line)
    ]
    report(broken, "what works only in one person's folder works for nobody else")


def test_pins_are_exact_and_come_from_the_index() -> None:
    broken = []
    for name, text in of_kind(".txt", under="requirements/"):
        entries = re.split(r"\n(?=\S)", text.strip())
        for entry in entries:
            if not re.match(r"[\w.-]+==\S+", entry) or "--hash=sha256:" not in entry:
                broken.append(f"{name}: {entry.splitlines()[0]}")
        if re.search(r"https?://|--(extra-)?index-url|--find-links", text):
            broken.append(f"{name}: names an address")
        if "python_full_version" in text:
            broken.append(f"{name}: a condition that a candidate of a Python never meets")
    report(broken, "only name==version with hashes installs the same thing everywhere")


def test_one_version_everywhere() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    package = (ROOT / "python/manyhands/__init__.py").read_text()
    broken = []
    if f'__version__ = "{cargo}"' not in package:
        broken.append(f"python/manyhands/__init__.py: __version__ is not {cargo}")
    if f"## {cargo}" not in (ROOT / "CHANGELOG.md").read_text():
        broken.append(f"CHANGELOG.md: no section {cargo}")
    report(broken, "a bug report that names a version must mean one state of the code")


def test_every_page_is_in_the_table_of_contents() -> None:
    pages = {name for name, _ in of_kind(".md", under="docs/")}
    listed = {"docs/index.md"}
    for _, text in of_kind(".md", under="docs/"):
        for block in re.findall(r"```\{toctree\}(.*?)```", text, re.DOTALL):
            for line in filter(None, block.split("\n")):
                listed |= set(fnmatch.filter(pages, f"docs/{line.strip()}.md"))
    report(sorted(pages - listed), "a page that no table of contents names is never found")


def test_named_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    broken = [
        f"{name}: make {command}"
        for name, text in of_kind(".md")
        for command in re.findall(r"(?:`|^\$ |^)make ([a-z][a-z-]*)", text, re.MULTILINE)
        if command not in targets
    ]
    report(broken, "a reader types what is written; the Makefile must know it")


def test_named_files_exist() -> None:
    broken = []
    for name, text in of_kind(".md"):
        here = (ROOT / name).parent
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in link and not (here / link).exists():
                broken.append(f"{name}: {link}")
        places = re.findall(rf"`((?:{'|'.join(TOP)})/[\w./-]+)`", text)
        broken += [f"{name}: {place}" for place in places if not (ROOT / place).exists()]
    report(broken, "a map that names folders long gone leads astray")
