"""Classes under the names by which users know them."""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["named", "public"]


def public(kind: type[T]) -> type[T]:
    """Have messages about a class, and about what it inherits from private ones, bear its name."""
    kind.__module__ = "manyhands"
    return named(kind)


def named(kind: type[T]) -> type[T]:
    """Have messages about what a class inherits from private ones bear its name.

    A message about wrong arguments names the function as it was defined. Users know nothing of the
    classes in between, so each class of theirs gets such functions as its own.
    """
    seen = set(vars(kind))
    for base in kind.__mro__[1:]:
        ours = base.__module__.startswith("manyhands.") and base.__module__ != "manyhands._native"
        for name, found in list(vars(base).items()):
            if ours and name not in seen and type(found) is FunctionType:
                setattr(kind, name, _renamed(found, f"{kind.__qualname__}.{name}"))
        seen.update(vars(base))
    return kind


def _renamed(function: FunctionType, qualname: str) -> FunctionType:
    renamed = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    renamed.__kwdefaults__ = function.__kwdefaults__
    renamed.__annotations__ = function.__annotations__
    renamed.__doc__ = function.__doc__
    renamed.__module__ = function.__module__
    renamed.__dict__.update(function.__dict__)
    renamed.__qualname__ = qualname
    return renamed
