"""Servers: crates/python/src/server."""

from typing import Any, TypedDict, final

from typing_extensions import Buffer

class _LoadReport(TypedDict):
    """What came of a load; see `run_load`."""

    seconds: float
    waits: list[float]
    shares: list[int]
    failures: dict[str, int]

def run_load(
    address: str,
    *,
    connections: int,
    request: bytes,
    answer: int | None,
    reconnect: bool,
    seconds: float,
) -> _LoadReport:
    """Put a server under load: each connection sends a request once the last is answered.

    Args:
        address: ``127.0.0.1:9000``, ``[::1]:9000`` or ``unix:path``.
        connections: how many at a time.
        request: what to send.
        answer: how many bytes come back for it; None: all until the server closes the connection.
        reconnect: each request has a connection of its own.
        seconds: for how long.

    Returns:
        seconds: how long it took; waits: how many seconds each answered request took; shares:
        how many were answered on each connection, if these are kept; failures: what went
        wrong, and how often.
    """

@final
class StreamCalls:
    def __new__(cls, fd: int, timeout: float | None) -> StreamCalls: ...
    def recv(self, size: int, flags: int = 0, /) -> bytes: ...
    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int: ...
    def send(self, data: Buffer, flags: int = 0, /) -> int: ...
    def sendall(self, data: Buffer, flags: int = 0, /) -> None: ...
    def settimeout(self, timeout: float | None) -> None: ...
    def is_idle(self) -> bool: ...
    def close(self) -> None: ...

@final
class ServerWorker:
    def take(self) -> tuple[int, Any, StreamCalls] | None: ...
    def busy_since(self) -> float | None: ...
    def leave(self) -> None: ...

@final
class ServerEngine:
    def __new__(
        cls,
        *,
        connections: int,
        active: int,
        queued: int,
        workers: int,
        reject: bool,
        tells: bool,
        shared: bool,
    ) -> ServerEngine: ...
    def accept(self, listener: int) -> None: ...
    def worker(self) -> ServerWorker: ...
    def wait(
        self, timeout: float | None = None
    ) -> tuple[int, list[tuple[int, Any]], tuple[str, bool] | None, bool]: ...
    def ask(self) -> None: ...
    def not_started(self, count: int) -> None: ...
    def end(self, drain: bool) -> int: ...
    def counts(self) -> dict[str, int]: ...
