"""Workers' interpreters are told what the program's own was told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from manyhands._worker import interpreter

# Of those that `sys.flags` has: said by no option of their own, or not for workers.
SAID_OTHERWISE = {
    "context_aware_warnings",  # by -X, as the next ones
    "dev_mode",
    "gil",
    "hash_randomization",  # by the environment
    "inspect",
    "int_max_str_digits",
    "interactive",
    "lazy_imports",
    "thread_inherit_context",
    "utf8_mode",
    "warn_default_encoding",
}


@pytest.mark.parametrize(
    "options",
    [
        ["-B"],
        ["-O"],
        ["-OO", "-B"],
        ["-E"],
        ["-I"],
        ["-P"],
        ["-b"],
        ["-bb"],
        ["-d"],
        ["-q"],
        ["-s"],
        ["-v"],
        ["-W", "ignore", "-O"],
        ["-X", "dev"],
        ["-X", "faulthandler"],
        ["-X", "utf8", "-B"],
    ],
    ids=" ".join,
)
def test_options_are_those_the_standard_library_gives(options: list[str]) -> None:
    look = (
        "from manyhands._worker import interpreter; ours = interpreter.flags(); "
        "import subprocess; "
        "theirs = subprocess._args_from_interpreter_flags(); assert ours == theirs, (ours, theirs)"
    )
    done = subprocess.run(
        [sys.executable, *options, "-c", look], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_flag_has_been_thought_of() -> None:
    names = {name for name in dir(sys.flags) if not name.startswith(("_", "n_"))}
    known = {*interpreter._RARE, "dont_write_bytecode", "optimize", *SAID_OTHERWISE}
    assert names - {"count", "index"} <= known
