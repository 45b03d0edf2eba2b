"""What a failed task's answer tells: the exception that its caller gets."""

from __future__ import annotations

import pytest

import manyhands as mh
from manyhands._cluster.raised import raised


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("TimeLimitExceeded", [0.5], "it ran longer than its time limit of 0.5 s"),
        ("TimeLimitExceeded", ["0.5"], "it ran longer than its time limit"),
        ("SoftTimeLimitExceeded", [], "it ran longer than its soft time limit"),
        (
            "SoftTimeLimitExceeded",
            ["it has run for longer than 1 s"],
            "it has run for longer than 1 s",
        ),
    ],
)
def test_a_time_limit_is_told_in_one_sentence(name: str, arguments: object, words: str) -> None:
    error = raised("shop.nap", "FAILURE", "billiard.exceptions", name, arguments, None)
    assert isinstance(error, mh.TaskTimeout)
    assert str(error) == f"task 'shop.nap' was stopped: {words}"


def test_what_would_end_the_caller_does_not() -> None:
    for name in ("SystemExit", "KeyboardInterrupt"):
        error = raised("shop.price", "FAILURE", "builtins", name, [3], None)
        assert isinstance(error, mh.RemoteError)
        assert error.kind == f"builtins.{name}"
        assert "would end what asks" in str(error)
