"""The English of comments, messages and pages: phrases at which readers stop are refused."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from rules import ROOT, report

# What is refused, and what an engineer writes instead.
INSTEAD = {
    r"\bWho\b(?![^.?;]*\?)": "the actor: the caller, the process that, whoever",
    r"(?:\b(?:by|for|from|of|only|since|than)|;)\s+who\b": "the actor, or whoever",
    r"\b(?:is|are|was|were)\s+(?:not\s+)?to\s+"
    r"(?!an?\b|the\b|its?\b|th[ae]t\b)[a-z]+": "must, should",
    r"\bfor\s+ever\b": "forever",
    r"\banew\b": "again",
    r"\bin\s+vain\b": "without success",
    r"\bby\s+and\s+by\b": "gradually",
    r"\bof\s+late\b": "recently",
    r"\bin\s+the\s+midst\b": "in the middle",
    r"\bworth\s+while\b": "worthwhile",
    r"\bdearer\b": "more expensive",
    r"\bput(?:s|ting)?\s+(?:\w+\s+)?right\b(?!\s+(?:after|before|behind|there))": "repair, restore",
    r"\blet(?:s|ting)?\s+(?:\w+\s+)?go\s+of\b": "release",
    r"\bnone\s+of\s+(?:ours|manyhands')|\bof\s+our\s+making\b": "malformed, not one of ours",
    r"\bis\s+no\s+\w+\s+any\s+more\b": "is no longer a",
}
FOLDERS = ("crates", "python", "tests", "benches", "examples", "docs", "tools")
MADE = {"__pycache__", "_build", "target", "node_modules"}


def blank(text: str) -> str:
    """Return only the line breaks of a text, so that what follows keeps its line's number."""
    return "\n" * text.count("\n")


def of_rust(text: str) -> str:
    """Return the comments and literals of a Rust file, each on its line."""
    lines = []
    for line in text.split("\n"):
        code, mark, comment = line.partition("//")
        literals = re.findall(r'"((?:[^"\\]|\\.)*)"?', code)
        lines.append(" ".join([*literals, comment.lstrip("/!") if mark else ""]))
    return "\n".join(lines)


def of_python(text: str) -> str:
    """Return the comments and literals of a Python file, each on its line."""
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    lines = [""] * (text.count("\n") + 2)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            for number, line in enumerate(token.string.split("\n"), token.start[0] - 1):
                lines[number] += f" {line.lstrip('# ')}"
    return "\n".join(lines)


def of_page(text: str) -> str:
    """Return a Markdown page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", lambda block: blank(block[0]), text, flags=re.M | re.S)


PROSE = {".rs": of_rust, ".py": of_python, ".pyi": of_python, ".md": of_page}


def prose() -> Iterator[tuple[str, str]]:
    """Yield (name, what people read of it) of each file."""
    paths = [*ROOT.glob("*.md"), *(path for each in FOLDERS for path in (ROOT / each).rglob("*"))]
    for path in sorted(paths):
        inside = path.relative_to(ROOT)
        if path.suffix in PROSE and not MADE & set(inside.parts) and path != Path(__file__):
            yield str(inside), PROSE[path.suffix](path.read_text(encoding="utf-8"))


def found_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, phrase, what to write instead)."""
    for pattern, instead in INSTEAD.items():
        flags = 0 if "Who" in pattern else re.IGNORECASE
        for match in re.finditer(pattern, text, flags):
            phrase = " ".join(match[0].split())
            yield text.count("\n", 0, match.start()) + 1, phrase, instead


def test_phrases_are_those_of_an_english_engineer() -> None:
    broken = [
        f'{name}:{line}: "{phrase}": write {instead}'
        for name, text in prose()
        for line, phrase, instead in found_in(text)
    ]
    report(broken, "readers of English stop at these, and look for a meaning that is not there")


def test_what_is_read_is_told_from_code() -> None:
    rust = 'for who in all {} // Who comes\n/// waits for\n/// ever\nlet x = "in vain"; anew();'
    assert [(line, phrase) for line, phrase, _ in found_in(of_rust(rust))] == [
        (1, "Who"),
        (2, "for ever"),
        (4, "in vain"),
    ]
    python = 'for who in x: anew = "who is it"  # let go of\n"""Who comes? It is\nto end."""\n'
    assert [(line, phrase) for line, phrase, _ in found_in(of_python(python))] == [
        (2, "is to end"),
        (1, "let go of"),
    ]
    page = "anew\n```python\nfor ever\n```\nfor ever\n"
    assert [(line, phrase) for line, phrase, _ in found_in(of_page(page))] == [
        (5, "for ever"),
        (1, "anew"),
    ]
