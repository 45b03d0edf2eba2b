"""What the command line names as `module:name`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from manyhands._errors.base import ManyhandsError

__all__ = ["ServeError", "find"]


class ServeError(ManyhandsError):
    """What was asked for cannot be served."""


def find(target: str) -> Any:
    """Import what `module:name` names; the working directory comes first.

    Raises:
        ServeError: there is no such thing; the text says what is missing.
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise ServeError(f"{target!r} names no handler: write module:handler, as in dinos:LookUp")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        if error.name != module:
            raise
        raise ServeError(
            f"there is no module {module!r} in {here} or among what is installed"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ServeError(f"{module} has no {name!r}")
        found = getattr(found, part)
    return found
