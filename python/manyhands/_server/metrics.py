"""What a server tells about itself over HTTP: its numbers and its health."""

from __future__ import annotations

import json
import os
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Protocol

from manyhands._server.counts import NUMBERS, OF_ALL
from manyhands._server.listener import is_of_datagrams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["METRICS_OPTIONS", "family", "metrics_address", "metrics_handler", "prometheus"]

# For the `Server` that answers: few readers at a time, each soon gone, none waited for.
METRICS_OPTIONS: dict[str, Any] = {
    "max_workers": 16,
    "max_connections": 32,
    "first_byte_timeout": 1.0,
    "connection_timeout": 3.0,
    "grace": 0.0,
}
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "manyhands_"


class Source(Protocol):
    """A server that is asked about."""

    def report(self) -> dict[str, Any]:
        """Return all that is known; see `Server.report`."""


def metrics_address(address: Any) -> Any:
    """Return where to listen: a port without a host is one of this machine's own.

    Raises:
        ValueError: it is an address of datagrams.
    """
    if is_of_datagrams(address):
        raise ValueError(f"{address!r} is for datagrams, and metrics are told over connections")
    text = str(address)
    return f"127.0.0.1:{text}" if text.isdecimal() else address


def metrics_handler(
    source: Source, *, is_private: bool, page: Callable[[dict[str, Any]], str] | None = None
) -> Callable[..., object]:
    """Return the handler of a server that tells about another one.

    Args:
        source: which one.
        is_private: whether only this user and root may ask, where it can be known who asks.
        page: what makes a page for Prometheus of a report; None: `prometheus`.
    """

    class Handler(MetricsHandler):
        pass

    Handler.source, Handler.is_private = source, is_private
    Handler.page = staticmethod(page or prometheus)
    return Handler


class MetricsHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    source: Source
    is_private: bool
    page: Callable[[dict[str, Any]], str]

    def handle(self) -> None:
        """Answer, if it is somebody who may ask."""
        is_known = self.is_private and self.request.family == socket.AF_UNIX
        if not is_known or _peer(self.request) in (0, os.geteuid()):
            super().handle()

    def do_GET(self) -> None:
        """Answer a request for one of the three pages."""
        page = {
            "/metrics": self._metrics,
            "/statistics": self._statistics,
            "/healthz": self._health,
        }
        answer = page.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND, explain="there are " + ", ".join(page))
            return
        status, kind, text = answer(self.source.report())
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def _metrics(self, report: dict[str, Any]) -> tuple[HTTPStatus, str, str]:
        return HTTPStatus.OK, PROMETHEUS, self.page(report)

    def _statistics(self, report: dict[str, Any]) -> tuple[HTTPStatus, str, str]:
        return HTTPStatus.OK, "application/json", json.dumps(report) + "\n"

    def _health(self, report: dict[str, Any]) -> tuple[HTTPStatus, str, str]:
        healthy = report["phase"] == "serving" and report["answers"]
        status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        word = report["phase"] if report["answers"] else f"{report['phase']}, but does not answer"
        return status, "text/plain; charset=utf-8", f"{word}\n"

    def address_string(self) -> str:
        """Return who asks, in words."""
        return str(self.client_address)

    def log_message(self, *_: Any) -> None:
        """Say nothing: it is asked every few seconds."""


def prometheus(report: dict[str, Any]) -> str:
    """Return a report in the text format of Prometheus, version 0.0.4.

    Example:
        >>> report = {"address": "here", "workers": "thread", "answers": True, "processes": []}
        >>> text = prometheus(report | {"statistics": {"served": 3}})
        >>> [line for line in text.splitlines() if "served" in line and line[0] != "#"]
        ['manyhands_server_served_total 3']
    """
    about = {name: str(report[name]) for name in ("address", "workers")}
    lines = [
        *family("server_info", "gauge", "what serves where", [(about, 1)]),
        *family(
            "server_answers", "gauge", "whether the server answers", [({}, int(report["answers"]))]
        ),
    ]
    processes = [(each, {"pid": str(each["pid"])}) for each in report["processes"]]
    if processes:
        answers = [(label, int(each["answers"])) for each, label in processes]
        lines += family("server_process_answers", "gauge", "whether the process answers", answers)
    for name, sort, meaning in NUMBERS:
        kind, end = ("counter", "_total") if sort == "total" else ("gauge", "")
        if name in report["statistics"]:
            lines += family(
                f"server_{name}{end}", kind, meaning, [({}, report["statistics"][name])]
            )
        # Apart: those of a process end with it, and the sum of them would fall.
        if processes and name not in OF_ALL:
            of_each = [(label, each["statistics"][name]) for each, label in processes]
            text = f"{meaning}, of one process"
            lines += family(f"server_process_{name}{end}", kind, text, of_each)
    return "\n".join(lines) + "\n"


def family(
    name: str, kind: str, meaning: str, values: list[tuple[dict[str, str], int]]
) -> Iterator[str]:
    """Yield the lines of one metric; its name goes on what all of ours begin with."""
    yield f"# HELP {PREFIX}{name} {meaning}"
    yield f"# TYPE {PREFIX}{name} {kind}"
    for labels, value in values:
        pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"{PREFIX}{name}{f'{{{pairs}}}' if pairs else ''} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _peer(connection: socket.socket) -> int:
    """Return the user at the other end of a Unix socket."""
    # Three numbers of four bytes: process, user, group.
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return memoryview(credentials).cast("I")[1]
