"""How a rule of the house is checked: what breaks it is listed, with the reason for the rule."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["ROOT", "report"]

ROOT = next(each for each in Path(__file__).resolve().parents if (each / "Cargo.toml").is_file())
# What the tests share; programs that they start look for it there.
SUPPORT = ROOT / "tests" / "support"


def report(broken: list[str], reason: str) -> None:
    """Fail if anything is listed."""
    if broken:
        pytest.fail("\n".join([*broken, f"Why: {reason}"]), pytrace=False)
