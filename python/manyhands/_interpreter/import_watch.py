"""Noticing imports: of one module just after it, and of any when one looks.

Something can be done just after a module has been imported, and nothing at all if it never is: a
worker's connection to ``logging`` or ``multiprocessing`` matters only to tasks that use them;
importing these modules up front would double the time a worker takes to start.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["NewModules", "after_import"]


def after_import(name: str, action: Callable[[], None]) -> None:
    """Call ``action`` once the module is there: at once, or just after its first import.

    Args:
        name: full name of a module.
        action: called without arguments; the module is complete by then.

    Example:
        >>> after_import("sys", lambda: print("there"))
        there
    """
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Watch(name, action))


class _Watch:
    """A finder that finds nothing itself, but adds the action to what the others find."""

    def __init__(self, name: str, action: Callable[[], None]) -> None:
        self.name = name
        self.action = action

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's spec, whose loader calls the action, or None for other modules."""
        if name != self.name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        # The loader of a source file is an object of its own, made for this one module.
        if spec.loader is not None and not isinstance(spec.loader, type):
            load = spec.loader.exec_module

            def load_and_act(module: ModuleType) -> None:
                load(module)
                self.action()

            spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


class NewModules:
    """The modules that have been imported since one last looked; at first, all there are.

    Args:
        judge: gets their names, and all modules by name. It may be called by several threads at
            once, for the same names: until it has returned, they are new.
    """

    def __init__(self, judge: Callable[[set[str], dict[str, ModuleType]], None]) -> None:
        self._judge = judge
        self._known: set[str] = set()
        self._latest: str | None = None

    def look(self) -> None:
        """Have new modules judged. This takes a fraction of a microsecond while there are none.

        A module that was removed and imported again is new, if somebody has looked in between.
        """
        try:
            latest = next(reversed(sys.modules), None)
        except RuntimeError:  # another thread is just importing something
            latest = None
        if latest is not None and latest == self._latest and len(self._known) == len(sys.modules):
            return
        modules = sys.modules.copy()
        new = modules.keys() - self._known
        if new:
            self._judge(new, modules)
        self._known, self._latest = set(modules), latest
