"""What is said of a handler that has raised."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyhands._server.open_connections import OpenConnections
    from manyhands._server.proxy_protocol import NotProxied

__all__ = ["log_failure", "log_unproxied"]

logger = logging.getLogger("manyhands.server")


def log_failure(
    connections: OpenConnections, handler: object, address: Any, error: Exception
) -> None:
    """Count and log what a handler has raised that serves the client at an address."""
    connections.count("timed_out" if isinstance(error, TimeoutError) else "failed")
    name = getattr(handler, "__qualname__", handler)
    logger.error("handler %s failed for the client at %s", name, address, exc_info=error)


def log_unproxied(connections: OpenConnections, address: Any, error: NotProxied) -> None:
    """Count and log a connection that is not served, since no proxy speaks for it."""
    connections.count("unproxied")
    # Not the error itself: whoever keeps the record would keep the event loop that it came from.
    logger.log(error.level, "the client at %s is not served: %s", address, str(error))
