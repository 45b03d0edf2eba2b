"""Exceptions whose class takes something else than it hands on: they arrive as they were.

Reports: python/cpython#79492, #103061 and #120810, multiprocess#33, ray#17936, iree#11655,
webknossos-libs#1517. `multiprocessing.Pool` hangs; others tell of the failed call, or say twice
what the message says once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import manyhands as mh


class NotThere(Exception):
    """What Python's own tutorial advises."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no {name} there")
        self.name = name


class OfParts(Exception):
    def __init__(self, foo: int, bar: str) -> None:
        self.foo = foo
        self.bar = bar


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class OfAnObject(Exception):
    def __init__(self, answer: Any) -> None:
        super().__init__(answer.real + answer.imag)


class Disk(OSError):
    def __init__(self, path: str, code: int) -> None:
        super().__init__(code, "it is full", path)
        self.code = code


class Slotted(Exception):
    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Together(ExceptionGroup[Exception]):
    def __new__(cls, *errors: Exception) -> Together:
        return super().__new__(cls, "together", errors)

    def __init__(self, *errors: Exception) -> None:
        super().__init__("together", errors)
        self.count = len(errors)


MADE: dict[str, Callable[[], Exception]] = {
    "message": lambda: NotThere("file"),
    "parts": lambda: OfParts(42, bar="a"),
    "keyword": lambda: KeywordOnly(code=3),
    "object": lambda: OfAnObject(2),
    "system": lambda: Disk("/var", 28),
    "slots": lambda: Slotted(7),
    "import": lambda: ImportError("no such", name="module", path="/there"),
    "group": lambda: ExceptionGroup("g", [NotThere("a"), ExceptionGroup("h", [Disk("/b", 5)])]),
    "own group": lambda: Together(NotThere("c"), KeywordOnly(code=4)),
}


def fail(name: str) -> None:
    error = MADE[name]()
    error.add_note("made by the task")
    raise error


def give(name: str) -> tuple[str, list[Exception]]:
    return name, [MADE[name]()]


def facts(error: BaseException) -> Any:
    """All that one can see of an exception."""
    names = ("errno", "filename", "strerror", "size", "name", "path", "code", "foo", "bar", "count")
    inner = [facts(each) for each in getattr(error, "exceptions", ())]
    return type(error), str(error), {name: getattr(error, name, None) for name in names}, inner


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(1) as executor:
        executor.submit(abs, -1).result()  # its processes are no test's
        yield executor


@pytest.mark.parametrize("name", MADE)
def test_raised(pool: mh.ProcessPoolExecutor, name: str) -> None:
    error = pool.submit(fail, name).exception()
    assert error is not None
    assert facts(error) == facts(MADE[name]())
    assert error.__notes__ == ["made by the task"]
    assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize("name", sorted(MADE.keys() - {"message", "group", "own group"}))
def test_returned(pool: mh.ProcessPoolExecutor, name: str) -> None:
    told, (error,) = pool.submit(give, name).result()
    assert (told, facts(error)) == (name, facts(MADE[name]()))


def test_as_an_argument_and_in_a_queue(pool: mh.ProcessPoolExecutor) -> None:
    error = KeywordOnly(code=3)
    assert pool.submit(facts, error).result() == facts(error)
    queue: mh.Queue[Exception] = mh.Queue()
    queue.put(OfParts(1, "b"))
    assert facts(queue.get()) == facts(OfParts(1, "b"))


def test_one_of_main(pool: mh.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeywordOnly, "__module__", "__main__")
    for error in (pool.submit(fail, "keyword").exception(), give("keyword")[1][0]):
        assert error is not None
        assert (str(error), error.code) == ("code 3", 3)  # type: ignore[attr-defined]


class Unmakable:
    made = 0

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    Unmakable.made += 1
    raise OSError("no connection")


def test_nothing_else_is_made_twice() -> None:
    queue: mh.Queue[Any] = mh.Queue()
    queue.put([KeywordOnly(code=3), Unmakable()])
    queue.put([Unmakable(), KeywordOnly(code=3)])
    with pytest.raises(TypeError, match="KeywordOnly"):
        queue.get()
    assert Unmakable.made == 1  # behind the exception, in the second attempt
    with pytest.raises(OSError, match="no connection"):
        queue.get()
    assert Unmakable.made == 2
