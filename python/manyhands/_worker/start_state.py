"""What workers take over from this program when they start, to notice when it has changed since."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from manyhands._interpreter.directory import working_directory
from manyhands._interpreter.import_watch import NewModules
from manyhands._interpreter.warning_filters import effective
from manyhands._worker import log_set_up
from manyhands._worker.settings import limits

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["StartState"]

# pytest sets it again for every test, and nobody else reads it.
_PASSED_OVER = os.fsencode("PYTEST_CURRENT_TEST")
_STANDARD_LIBRARY = os.path.dirname(os.__file__)

# Names of the program's own modules: libraries are too many to be looked at each time, and nobody
# edits them in a notebook.
_own: set[str] = set()


class StartState(NamedTuple):
    """A snapshot of it.

    Attributes:
        path: ``sys.path``.
        directory: the working directory, or None if it has been removed.
        environment: the environment variables, encoded.
        modules: specifications of the program's own modules, by name; reloading one makes another.
        warning_filters: those that counted then.
        logging: levels, their names and the class of loggers.
        limits: how deep calls may go, and how many digits an int may have as a text.
    """

    path: list[Any]
    directory: str | None
    environment: dict[bytes, bytes]
    modules: dict[str, ModuleSpec | None]
    warning_filters: list[Any]
    logging: tuple[Any, ...]
    limits: tuple[int, int]

    @classmethod
    def now(cls) -> StartState:
        """Return the present state; it takes some microseconds.

        Example:
            >>> StartState.now().is_current()
            True
        """
        return cls(
            list(sys.path),
            working_directory(),
            _environment(),
            _modules(),
            effective(),
            log_set_up.state(),
            limits(),
        )

    def is_current(self) -> bool:
        """Say whether workers that were started then see what new ones would see.

        A module that was imported since makes no difference yet, for a worker imports it when it
        needs it; from now on it is one of those that count.
        """
        if sys.path != self.path or _environment() != self.environment:
            return False
        if working_directory() != self.directory:
            return False
        if not _let_through(self.warning_filters, effective()):
            return False
        if log_set_up.state() != self.logging or not self._is_within_limits():
            return False
        now = _modules()
        if any(now.get(name, spec) is not spec for name, spec in self.modules.items()):
            return False
        self.modules.update(now)
        return True

    def _is_within_limits(self) -> bool:
        # Libraries raise the first for a while; workers that know of more than there is do no harm.
        (deepest, digits), (deepest_now, digits_now) = self.limits, limits()
        return deepest_now <= deepest and digits_now == digits


def _let_through(started: list[Any], now: list[Any]) -> bool:
    """Say whether filters that workers were started with let through what the present ones do.

    The present ones are applied here to what comes. So it does no harm if workers do not know yet
    what is ignored, as long as they make no errors of it.
    """
    more = len(now) - len(started)
    if more <= 0:
        return started == now
    return (
        now[more:] == started
        and all(item[0] == "ignore" for item in now[:more])
        and not any(item[0] == "error" for item in started)
    )


def _environment() -> dict[bytes, bytes]:
    # What os.environ is made of: to decode all of it for each comparison would take much longer.
    environment: dict[bytes, bytes] = dict(os.environ._data)  # type: ignore[attr-defined]
    environment.pop(_PASSED_OVER, None)
    return environment


def _modules() -> dict[str, ModuleSpec | None]:
    _new_modules.look()
    modules = sys.modules
    return {name: _spec(modules[name]) for name in list(_own) if name in modules}


def _judge(names: set[str], modules: dict[str, ModuleType]) -> None:
    for name in names:
        if _is_own(modules[name]):
            _own.add(name)
        else:
            _own.discard(name)


_new_modules = NewModules(_judge)


def _spec(module: Any) -> ModuleSpec | None:
    found: ModuleSpec | None = getattr(module, "__spec__", None)
    return found


def _is_own(module: Any) -> bool:
    """Say whether a module belongs to the program, not to a library that it uses."""
    origin = getattr(_spec(module), "origin", None)
    if not isinstance(origin, str) or "site-packages" in origin or "dist-packages" in origin:
        return False
    return origin.startswith("/") and not origin.startswith(_STANDARD_LIBRARY)
