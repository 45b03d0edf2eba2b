"""How the program has set up logging, as far as its workers take it over when they start.

Handlers, filters and formats are the parent's, and stay there: records are handled where it is.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import TypedDict

    class LogSetUp(TypedDict):
        """What is taken over; plain values, for the zygote loads them."""

        levels: dict[str, int]
        disabled: int
        names: dict[int, str]
        logger_class: bytes | None  # its pickle


__all__ = ["apply", "collect", "state"]

_USUAL = {0: "NOTSET", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


def state() -> tuple[dict[str, int], int, dict[int, str], type | None]:
    """Return the present state, to be compared with another; it takes some microseconds.

    Returns:
        Levels by logger name, the root logger's under ``""``; the level of `logging.disable`; the
        names of levels that the program has given one; the class that it makes loggers of, or None.

    Example:
        >>> state() == state()
        True
    """
    logging = sys.modules.get("logging")
    if logging is None:
        return {}, 0, {}, None
    levels = {"": logging.root.level}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        level = getattr(logger, "level", 0)  # a placeholder has none
        if level:
            levels[name] = level
    # A copy first: other threads may name levels in the meantime.
    names = dict(dict(logging._levelToName).items() - _USUAL.items())
    made_of = logging.getLoggerClass()
    disabled = logging.root.manager.disable
    return levels, disabled, names, None if made_of is logging.Logger else made_of


def collect() -> LogSetUp:
    """Describe the present state for workers.

    Example:
        >>> collect()["disabled"]
        0
    """
    levels, disabled, names, made_of = state()
    return {
        "levels": levels,
        "disabled": disabled,
        "names": names,
        "logger_class": None if made_of is None else _dump_class(made_of),
    }


def _dump_class(found: type) -> bytes | None:
    from manyhands._pickle import pickling

    try:
        return pickling.dumps_in_band(found)
    except Exception:
        return None  # then workers make do with the usual one


def apply(set_up: LogSetUp) -> None:
    """Take it over; call it in a worker as soon as `logging` has been imported there."""
    import logging

    if set_up["logger_class"] is not None:
        from manyhands._pickle import pickling

        try:
            logging.setLoggerClass(pickling.loads(set_up["logger_class"]))
        except Exception:
            pass  # it cannot be made here; whoever needs it will tell
    for level, text in set_up["names"].items():
        logging.addLevelName(level, text)
    for name, level in set_up["levels"].items():
        logging.getLogger(name).setLevel(level)
    logging.disable(set_up["disabled"])
