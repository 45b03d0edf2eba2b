"""What Rust and Python must know alike is said in Rust, and asked for by Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from manyhands import _native
from rules import ROOT, report

PACKAGE = ROOT / "python" / "manyhands"
STUBS = PACKAGE / "_native"
PARTS = sorted(path.stem for path in STUBS.glob("*.pyi") if path.stem != "__init__")
# How a pickle begins: CPython says so.
MARKS_OF_OTHERS = {b"\x80"}
# By these, bytes get a form of one's own.
FORMS = {"struct", "_struct", "to_bytes", "from_bytes"}
WORDS = {31, 32, 63, 64}
# Modules that may, with what for.
FORMS_OF_OTHERS = {
    "_cluster/rabbitmq_node.py": "lines between Python and Erlang",
    "_map/meter.py": "a file of /proc",
    "_map/runnable.py": "a file of /proc",
    "_queue/netstring.py": "messages of FIFOs, of which Rust knows nothing",
    "_server/control_socket.py": "lines of JSON between processes that are both Python",
    "_server/serve_loops.py": "what is added to an eventfd that only Python knows",
    "_worker/by_name.py": "pickle's opcodes",
    "_worker/hash_seed.py": "a random number",
}


def written_again(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, what) where a module lays out bytes, marks them, or numbers descriptors."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            if len(node.value) == 1 and node.value not in MARKS_OF_OTHERS:
                yield node.lineno, f"the mark {node.value!r}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = {each.name for each in node.names} | {str(getattr(node, "module", ""))}
            yield from ((node.lineno, f"the module {name}") for name in sorted(names & FORMS))
        elif isinstance(node, ast.Attribute) and node.attr in FORMS:
            yield node.lineno, f"the method {node.attr}"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift):
            if isinstance(node.right, ast.Constant) and node.right.value in WORDS:
                yield node.lineno, "the bit " + ast.unparse(node)
        elif isinstance(node, ast.keyword) and node.arg == "start":
            if isinstance(node.value, ast.Constant) and isinstance(node.value.value, int):
                yield node.lineno, f"the first number {node.value.value}"
        elif isinstance(node, ast.JoinedStr):
            # A call in a program that is written here for another process.
            for part in node.values:
                text_of = str(part.value) if isinstance(part, ast.Constant) else ""
                if "main(" in text_of and not text_of.endswith("main("):
                    yield node.lineno, f"the arguments in {text_of!r}"


def test_no_module_writes_down_what_rust_knows() -> None:
    broken = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in FORMS_OF_OTHERS:
            found = written_again(path.read_text(encoding="utf-8"))
            broken += [f"python/manyhands/{name}:{line}: {what}" for line, what in found]
    report(
        broken, "what stands twice will differ some day; export it, as pool/process/wire.rs does"
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('send(b"Q")', "the mark b'Q'"),
        ("import struct", "the module struct"),
        ("from _struct import Struct", "the module _struct"),
        ('head = len(data).to_bytes(4, "little")', "the method to_bytes"),
        ("number = 1 << 31 | n", "the bit 1 << 31"),
        ("numbers = enumerate(inherited, start=5)", "the first number 5"),
        ('code = f"from there import main; main(3, {n})"', "the arguments in"),
    ],
)
def test_what_is_written_down_again_is_found(line: str, what: str) -> None:
    (found,) = written_again(line)
    assert found[1].startswith(what)


def test_only_those_are_excused_that_need_it() -> None:
    needed = {
        name
        for name in FORMS_OF_OTHERS
        if any(written_again((PACKAGE / name).read_text(encoding="utf-8")))
    }
    assert needed == FORMS_OF_OTHERS.keys()


# The native module, and its description for type checkers


def defined(part: str) -> set[str]:
    """Return the public names that a part of the description defines."""
    body = ast.parse((STUBS / f"{part}.pyi").read_text(encoding="utf-8")).body
    names = {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    names |= {
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    return {name for name in names if not name.startswith("_")}


def test_the_description_of_the_native_module_is_whole() -> None:
    exported: dict[str, set[str]] = {}
    for node in ast.parse((STUBS / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            part = (node.module or "").removeprefix("manyhands._native.")
            names = exported.setdefault(part, set())
            names.update(each.asname or "" for each in node.names)
    assert exported == {part: defined(part) for part in PARTS}
    described = set().union(*exported.values())
    assert described == {name for name in dir(_native) if not name.startswith("_")}


def test_nothing_imports_a_part_of_the_description() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: manyhands._native.{part}"
        for folder in (PACKAGE, ROOT / "tests", ROOT / "benches")
        for path in sorted(folder.rglob("*.py"))
        for part in PARTS
        if path.name != "test_wire.py"
        if f"manyhands._native.{part} " in path.read_text(encoding="utf-8")
    ]
    report(broken, "type checkers see modules there, but at run time there is only one")
