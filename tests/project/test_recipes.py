"""The recipes in CONTRIBUTING.md name the files that what they follow is made of, and no others."""

from __future__ import annotations

import re

import pytest

from rules import ROOT

# What a file holds that takes part.
MODELS = {
    "A task option": r"\bpriority\b",
    "A primitive": r"\bEventBase\b|Kind::Event\b|\b_sync\.event\b|\bmod event;",
    "A statistic": r"[\w)]\.retried\b|\bretried: (?:Atomic)?[uU]64|\"retried\"|`retried`",
    "A packet to the zygote": r"\bRequest::Signal\b|\brequest == \"signal\"",
}
# Queues and RabbitMQ have priorities of their own, and system calls packets.
OTHERS = (
    "crates/channel/",
    "crates/cluster/",
    "crates/os/",
    "crates/python/src/queue/",
    "python/manyhands/_queue/",
)


def steps() -> dict[str, list[str]]:
    """Return the files of each recipe."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.partition("## Recipes\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### (.*?), as .*$", text, flags=re.MULTILINE)[1:]
    lines = r"^- `([^`]+)`"
    return {
        parts[at]: re.findall(lines, parts[at + 1], re.MULTILINE) for at in range(0, len(parts), 2)
    }


def test_there_is_a_model_for_each() -> None:
    assert steps().keys() == MODELS.keys()


@pytest.mark.parametrize("recipe", MODELS)
def test_a_recipe_names_all_files(recipe: str) -> None:
    listed = steps()[recipe]
    files = [*(ROOT / "crates").glob("*/src/**/*.rs"), *(ROOT / "python").rglob("*.py*")]
    names = {
        path.relative_to(ROOT).as_posix() for path in files if path.suffix in (".rs", ".py", ".pyi")
    }
    code = {name for name in names if not name.startswith(OTHERS) and "/tests" not in name}
    code |= {name for name in listed if name.startswith("docs/")}
    using = {
        name
        for name in code
        if re.search(MODELS[recipe], (ROOT / name).read_text(encoding="utf-8"))
    }
    assert len(listed) == len({*listed})
    assert using == {*listed}
