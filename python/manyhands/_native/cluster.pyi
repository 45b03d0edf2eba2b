"""Clusters: producers of tasks, and workers: crates/python/src/cluster."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

@final
class ClusterClient:
    """A connection to a broker, with a queue for answers."""

    def __new__(
        cls,
        url: str,
        deliver: Callable[[list[int], list[tuple[Any, ...]]], None],
        *,
        name: str,
        reply_queue: str,
        origin: str,
        connect_within: float,
        certificates: str | None = None,
        identity: tuple[bytes, bytes] | None = None,
    ) -> ClusterClient: ...
    @property
    def address(self) -> str: ...
    def declare(self, queue: str) -> None: ...
    def submit(
        self,
        token: int,
        queue: str,
        task: tuple[str, str],
        arguments: tuple[str, str],
        settings: dict[str, Any],
        now_ms: int,
    ) -> None: ...
    def submit_pickle(
        self,
        token: int,
        queue: str,
        task: tuple[str, str],
        body: bytes,
        settings: dict[str, Any],
        now_ms: int,
    ) -> None: ...
    def revoke(self, token: int, task_id: str, now_ms: int) -> None: ...
    def close(self, within: float) -> None: ...
    def join(self) -> None: ...

@final
class ClusterWorker:
    """The half of a worker that has messages and no Python; see `manyhands._cluster.worker`."""

    def __new__(
        cls,
        url: str,
        *,
        name: str,
        hostname: str,
        origin: str,
        kind: str,
        queues: Sequence[str],
        slots: int,
        most_deaths: int,
        tasks: Mapping[str, tuple[bool, float | None, float | None]],
        accepts: Sequence[str],
        utc_offset: float,
        events: bool,
    ) -> ClusterWorker:
        """Begin to consume.

        Args:
            url: the broker.
            name: what the broker's operators see as the name of the connection.
            hostname: the worker's name for those who ask it: ``worker@host``.
            origin: the worker's name in what it sends.
            kind: of its pool, for those who ask.
            queues: where it consumes; tasks that nobody has named a queue for go to the first.
            slots: how many tasks run at a time.
            most_deaths: so many processes may die over a task.
            tasks: of each by its name, whether its result is ignored, and its hard and soft limit.
            accepts: serializers beside JSON.
            utc_offset: hours by which local time is behind UTC.
            events: whether it tells what becomes of tasks before it is asked to.

        Raises:
            ValueError: the URL is none.
        """

    def take(self, timeout: float | None) -> list[tuple[Any, ...]] | None:
        """Wait until there is something to do; return it, or nothing after `timeout` seconds.

        ``("run", job, task, content, serializer, soft, hard, about)``, ``("stop", job)``,
        ``("consuming",)``, ``("shut down",)`` or ``("trouble", text)``; None when it has ended.

        Raises:
            ConnectionRefusedError: the broker does not let it in.
        """

    def finished(self, job: int, outcome: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Say how a task has ended by itself, as `manyhands._cluster.outcome.run` returns it.

        Return the tasks to run next, as `take` would: its caller is awake already.
        """

    def crashed(self, job: int) -> None:
        """Say that the process that ran a task has died."""

    def returned(self, job: int) -> None:
        """Say that a task was not begun, or was stopped as asked for."""

    def revoke(self, ids: Sequence[str], *, stops: bool) -> None:
        """Do not run these tasks any more; with `stops`, stop those that run."""

    def shut_down(self, grace: float | None) -> None:
        """End once what runs has ended, within `grace` seconds; with 0 at once."""

    def statistics(self) -> dict[str, Any]:
        """Return what it does and has done."""

@final
class ClusterVisit:
    """A connection to a broker for as long as a visit takes; ConnectionError if it refuses."""

    def __new__(cls, url: str, name: str, connect_within: float) -> ClusterVisit: ...
    @staticmethod
    def greeting(url: str, connect_within: float) -> BrokerGreeting: ...
    @staticmethod
    def dead_letters(queue: str) -> str: ...
    @property
    def address(self) -> str: ...
    def depth(self, queue: str) -> tuple[int, int]: ...
    def declare(self, name: str, is_quorum: bool) -> None: ...
    def next_letter(self, queue: str) -> DeadLetter | None: ...
    def send_back(self, letter: DeadLetter, queue: str) -> None: ...
    def drop_letter(self, letter: DeadLetter) -> None: ...
    def end(self) -> None: ...

@final
class BrokerGreeting:
    """What a broker says of itself."""

    @property
    def consumer_timeout(self) -> int | None: ...
    @property
    def has_transient_queues(self) -> bool: ...

@final
class DeadLetter:
    """A message in a queue of dead letters."""

    @property
    def because(self) -> str | None: ...
    @property
    def source_queue(self) -> str | None: ...
    def header(self, name: str) -> str | None: ...
    @property
    def body(self) -> bytes: ...
