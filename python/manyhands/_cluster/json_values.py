"""JSON with the values that Celery adds to it: dates, times, decimals, UUIDs and bytes."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["dumps", "loads"]

# In this order: a datetime is a date, too.
_ENCODERS: Final[dict[type, tuple[str, Callable[[Any], object]]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    Decimal: ("decimal", str),
    UUID: ("uuid", lambda value: {"hex": value.hex}),
}
_DECODERS: Final[dict[str, Callable[[Any], object]]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda text: datetime.fromisoformat(text).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda fields: UUID(**fields),
    "bytes": str.encode,
    "base64": b64decode,
}


def dumps(value: object) -> str:
    """Return a value as JSON.

    Raises:
        TypeError: something in it has no form in JSON; an object can say its own with ``__json__``.
        ValueError: it contains itself.

    Example:
        >>> dumps({"at": date(2026, 1, 2)})
        '{"at": {"__type__": "date", "__value__": "2026-01-02"}}'
    """
    return json.dumps(value, default=_envelope)


def loads(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or has a value that nobody can make.

    Example:
        >>> loads('{"__type__": "decimal", "__value__": "1.50"}')
        Decimal('1.50')
    """
    mark = "__type__" if isinstance(text, str) else b"__type__"
    # A hook is called for every object in the text, which takes longer than all the rest.
    hook = _value if mark in text else None  # type: ignore[operator]
    try:
        return json.loads(text, object_hook=hook)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _envelope(value: Any) -> object:
    own = getattr(value, "__json__", None)
    if own is not None:
        return own()
    if isinstance(value, bytes):
        try:
            return {"__type__": "bytes", "__value__": value.decode()}
        except UnicodeDecodeError:
            return {"__type__": "base64", "__value__": b64encode(value).decode()}
    for kind, (mark, encode) in _ENCODERS.items():
        if isinstance(value, kind):
            return {"__type__": mark, "__value__": encode(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r:.100}")


def _value(found: dict[str, Any]) -> object:
    if found.keys() != {"__type__", "__value__"}:
        return found
    kind, value = found["__type__"], found["__value__"]
    decode = _DECODERS.get(kind) if isinstance(kind, str) else None
    if decode is None:
        raise ValueError(f"there are no values of type {kind!r:.100}")
    try:
        return decode(value)
    except Exception as error:  # whatever a constructor says of what it does not take
        raise ValueError(f"there is no {kind} {value!r:.100}") from error
