"""Applications of the web: what users name, and what serves it."""

from __future__ import annotations

import importlib.util
from typing import Any, NamedTuple

from manyhands._server.handler import is_asynchronous, takes
from manyhands._server.target import find

__all__ = ["RUNNERS", "Application", "Runner"]


class Runner(NamedTuple):
    """How applications of one interface are served."""

    # The HTTP server, which is an optional dependency.
    package: str
    # The module whose `main` each process runs.
    program: str
    # Kinds of workers, and what is said of others.
    workers: tuple[str, ...]
    why: str


RUNNERS = {
    "wsgi": Runner(
        "waitress",
        "wsgi_process",
        ("process", "thread"),
        "'process' for processes with threads, or 'thread' for one process with so many of them",
    ),
    "asgi": Runner(
        "uvicorn", "asgi_process", ("process",), "'process', since each runs one event loop"
    ),
}


class Application(NamedTuple):
    """An application, by name: each process imports it as it is then."""

    target: str
    interface: str

    def runner(self) -> Runner:
        """Return what serves it.

        Raises:
            ValueError: that is not installed.
        """
        runner = RUNNERS[self.interface]
        if importlib.util.find_spec(runner.package) is None:
            raise ValueError(
                f"{self.interface.upper()} applications are served with {runner.package}, which is "
                f"not installed: pip install 'manyhands[{self.interface}]'"
            )
        return runner

    def find(self) -> Any:
        """Import it.

        Raises:
            ServeError: there is no such thing.
            TypeError: it has another interface; the text says which.
        """
        app = find(self.target)
        if not callable(app):
            raise TypeError(f"it is {app!r}, which cannot be called: name an application")
        interface = _interface_of(app)
        if interface not in (None, self.interface):
            raise TypeError(f"it is an application for {interface.upper()}: use --{interface}")
        return app


def _interface_of(app: Any) -> Any:
    """Return the interface that an application surely has; None: it may be either."""
    if is_asynchronous(app):
        return "asgi"
    two, three = takes(app, 2), takes(app, 3)
    return None if two == three else "wsgi" if two else "asgi"
