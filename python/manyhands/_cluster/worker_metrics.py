"""What a worker tells about itself over HTTP: its numbers, and whether it consumes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from manyhands._server.listener import Listener
from manyhands._server.metrics import METRICS_OPTIONS, family, metrics_address, metrics_handler
from manyhands._server.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyhands._cluster.worker import Worker

__all__ = ["told_over_http"]

# Name, whether it only grows, and what it means.
NUMBERS: Final = (
    ("received", True, "messages that came"),
    ("finished", True, "tasks that ended by themselves"),
    ("deaths", True, "processes that died over a task"),
    ("dead", True, "messages that became dead letters"),
    ("revoked", True, "tasks that were revoked, or came too late"),
    ("returned", True, "messages given back to their queues"),
    ("unheard", True, "answers that nobody waited for any more"),
    ("running", False, "tasks that run"),
    ("waiting", False, "messages that are here and do not run"),
    ("consuming", False, "whether the broker has confirmed a consumer of each queue"),
    ("blocked", False, "whether the broker takes no messages"),
)


class Told:
    """A worker as metrics ask about it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def report(self) -> dict[str, Any]:
        """Return all that is known."""
        statistics = self._worker.statistics()
        return {
            "queues": [*self._worker.queues],
            "workers": self._worker.kind,
            "phase": "serving" if statistics["consuming"] else "not consuming",
            "answers": True,
            "statistics": statistics,
        }


def worker_page(report: dict[str, Any]) -> str:
    """Return a report in the text format of Prometheus."""
    about = {"queues": ",".join(report["queues"]), "workers": report["workers"]}
    lines = [*family("worker_info", "gauge", "what consumes from where", [(about, 1)])]
    for name, grows, meaning in NUMBERS:
        kind, end = ("counter", "_total") if grows else ("gauge", "")
        value = int(report["statistics"][name])
        lines += family(f"worker_{name}{end}", kind, meaning, [({}, value)])
    return "\n".join(lines) + "\n"


@contextmanager
def told_over_http(worker: Worker, address: str) -> Iterator[Server]:
    """Answer who asks about a worker, for the length of a block."""
    listener = Listener(metrics_address(address), mode=0o600)
    handler = metrics_handler(Told(worker), is_private=listener.is_made_here, page=worker_page)
    with Server(listener, handler, **METRICS_OPTIONS) as server:  # type: ignore[arg-type]
        thread = threading.Thread(target=server.serve_forever, name="mh-metrics", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
