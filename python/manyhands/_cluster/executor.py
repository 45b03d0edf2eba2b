"""The executor whose workers are elsewhere: on RabbitMQ, in one fleet with Celery's."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from manyhands._cluster.broker_url import url_of_development
from manyhands._cluster.options import (
    NO_CLUSTER_OPTIONS,
    ClusterOptions,
    check_name,
    check_priority,
    moment,
)
from manyhands._cluster.sender import send_by
from manyhands._cluster.submissions import CONNECT_S, Submissions
from manyhands._interpreter.deadline import seconds_of
from manyhands._pool.executor import BoundExecutor, WaitingExecutor
from manyhands._pool.portrait import portrait
from manyhands._task.options import Backoff, TaskOptions, checked_options
from manyhands._task.worker_kind import CLUSTER, WorkerKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from manyhands._cluster.by_name import ExecutorByName, ViewByName
    from manyhands._cluster.options import When
    from manyhands._cluster.signature import Chain
    from manyhands._future.future import Future
    from manyhands._task.target import Reserved
else:
    from manyhands._pool.executor import Executor as ExecutorByName

__all__ = ["ClusterExecutor"]

_next_number = count().__next__

# How many calls a lazy map has under way; how many workers there are, only the broker knows.
_WINDOW = 1000


class ClusterExecutor(ExecutorByName):
    """Runs tasks on whatever workers listen to a queue of RabbitMQ, on this machine or others.

    Messages are those of Celery's protocol 2: the workers are those of ``manyhands worker``, or
    Celery's own, and both may take tasks from one queue. A task goes by name: that of a task of
    ours, of one of a Celery application, or simply a string.

    A task is published once the broker has confirmed it, again after a lost connection, and its
    answer comes to a queue of this executor's own, which stays for a day without it. So tasks
    survive what connections do not, and may run twice (*at least once*); a future gets one result.

    Args:
        url: where the broker is, ``amqp://name:password@host:port/vhost``, or ``amqps://…``; None
            for what the environment variable ``AMQP_URL`` says, or a private RabbitMQ that this
            user's ``manyhands worker --dev`` has started.
        queue: the queue of tasks; it is made, as Celery makes it, unless it is there.
        serializer: ``"json"``, or ``"pickle"`` where the workers allow that.
        connect_timeout: seconds until a broker that does not answer is given up.
        cafile: a file of certificates to trust besides the system's, for ``amqps``.
        certfile: a file with the certificate to show.
        keyfile: a file with its key.

    Raises:
        BrokerError: the broker does not answer, or does not let us in.
        ValueError: an argument makes no sense.

    Example:
        >>> with mh.ClusterExecutor("amqp://guest:guest@localhost") as ex:
        ...     ex.submit("shop.price", "apple").result(timeout=10)
        2.5
    """

    __module__ = "manyhands"

    _kind: ClassVar[WorkerKind] = CLUSTER

    def __init__(
        self,
        url: str | None = None,
        queue: str = "celery",
        *,
        serializer: Literal["json", "pickle"] = "json",
        connect_timeout: float = CONNECT_S,
        cafile: str | os.PathLike[str] | None = None,
        certfile: str | os.PathLike[str] | None = None,
        keyfile: str | os.PathLike[str] | None = None,
    ) -> None:
        if url is None:
            url = os.environ.get("AMQP_URL") or url_of_development()
            if url is None:
                raise ValueError("give the URL of a broker, or set AMQP_URL in the environment")
        if serializer not in ("json", "pickle"):
            raise ValueError(f"serializer must be 'json' or 'pickle', not {serializer!r}")
        check_name("queue", queue)
        if (certfile is None) != (keyfile is None):
            raise ValueError("certfile and keyfile belong together")
        self._max_workers = _WINDOW
        identity = None
        if certfile is not None and keyfile is not None:
            identity = (Path(certfile).read_bytes(), Path(keyfile).read_bytes())
        self._submissions = Submissions(
            url,
            queue,
            f"manyhands-{os.getpid()}-{_next_number()}",
            serializer == "pickle",
            float(connect_timeout),
            None if cafile is None else Path(cafile).read_text(encoding="ascii"),
            identity,
        )
        send_by(self)

    def __del__(self) -> None:
        submissions = getattr(self, "_submissions", None)
        if submissions is not None and not submissions.is_closed:
            submissions.close()

    def __repr__(self) -> str:
        executor: Any = self
        shown = portrait(executor, 0, self._submissions.size())
        return shown.replace(
            f"workers=0/{self._max_workers}",
            f"queue={self._submissions.queue!r} at {self._submissions.address}",
        )

    def _is_shut_down(self) -> bool:
        return self._submissions.is_closed

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a worker run a task, by name; return its `Future`.

        Args:
            fn: a task, or the name of one.
            args: what it gets; with JSON, what that knows, and dates, decimals, UUIDs and bytes.
            kwargs: the same, by keyword.

        Raises:
            RuntimeError: the executor has been shut down.
            TypeError: `fn` has no name that a worker could know, or an argument no form in JSON.
        """
        return self._submissions.send(name_of(fn), args, kwargs, NO_CLUSTER_OPTIONS)

    def _submit(
        self,
        options: TaskOptions,
        fn: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        future: Future[Any] | None = None,
    ) -> Future[Any]:
        chosen = options if isinstance(options, ClusterOptions) else ClusterOptions(*options)
        return self._submissions.send(name_of(fn), args, kwargs, chosen, future)

    def send(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> Future[Any]:
        """Publish a task, with options as `options` has them."""
        view = self.options(**_as_options(options))
        return self._submit(view._options, task, tuple(args), dict(kwargs))

    def send_chain(self, chain: Chain) -> Future[Any]:
        """Publish the first task of a chain; return the future of the last result.

        The options of its signatures hold for each of them.
        """
        first, *others = chain.steps
        if any("queue" in step.options for step in chain.steps):
            # Else the worker of another queue would send what follows to a queue of its own.
            own = {"queue": self._submissions.queue}
            others = [replace(step, options=own | {**step.options}) for step in others]
        view: Any = self.options(**_as_options(first.options))
        return self._submissions.send(
            first.task, first.args, first.kwargs, view._options, None, tuple(others)
        )

    def _reserve(self) -> Reserved:
        return _Reserved(self)

    def _resize(self, max_workers: int) -> None:  # noqa: ARG002 - the name of all executors
        raise TypeError("the workers of a cluster are started elsewhere: see `manyhands worker`")

    def options(  # type: ignore[override]
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        priority: int = 0,
        name: str | None = None,
        backoff: Backoff = None,
        wait_for_futures: bool = False,
        queue: str | None = None,
        countdown: float | None = None,
        eta: When = None,
        expires: When = None,
        ignore_result: bool = False,
        soft_timeout: float | None = None,
        task_id: str | None = None,
    ) -> ViewByName:
        """Return a view of this executor whose tasks run with these options.

        Args:
            timeout: seconds that an attempt may run; a worker with processes ends it then.
            retries: how many more times a task is sent that has failed.
            retry_on: the exception class, or tuple of them, worth another try.
            priority: from 0 to 255; what it means is up to the queue.
            name: what the task is called in logs of workers.
            backoff: as for the other executors; the task waits at the broker or its worker.
            wait_for_futures: as for the other executors; results come here first.
            queue: another queue.
            countdown: seconds until it may begin.
            eta: the moment from which on it may begin, a datetime.
            expires: the moment, or the seconds from now, after which it is not begun any more.
            soft_timeout: seconds after which the task gets an exception of its time limit.
            task_id: the id of the task, one that no other has; None for a new one.
            ignore_result: whether the future is done, with None, once the broker has the task.

        Raises:
            TypeError, ValueError: an option makes no sense.
        """
        base = checked_options(
            timeout, retries, retry_on, priority, name, backoff, wait_for_futures
        )
        check_priority(base.priority)
        if queue is not None:
            check_name("queue", queue)
        wait, _ = moment("countdown", countdown)
        eta_wait, eta_ms = moment("eta", eta)
        expires_wait, expires_ms = moment("expires", expires)
        soft_timeout = seconds_of("soft_timeout", soft_timeout)
        if soft_timeout is not None and not soft_timeout > 0:
            raise ValueError(f"soft_timeout must be greater than 0, got {soft_timeout}")
        if task_id is not None:
            check_name("task_id", task_id)
        chosen = ClusterOptions(
            *base,
            queue=queue,
            countdown=wait if wait is not None else eta_wait,
            eta_ms=eta_ms,
            expires=expires_wait,
            expires_ms=expires_ms,
            ignore_result=bool(ignore_result),
            soft_timeout=soft_timeout,
            task_id=task_id,
        )
        kind: Any = WaitingExecutor if chosen.wait_for_futures else BoundExecutor
        view: ViewByName = kind(self, chosen)
        return view

    def statistics(self) -> dict[str, Any]:
        """Return what this executor has sent and got, as `Executor.statistics`.

        ``workers`` is empty: they are elsewhere. Beside it stand ``unconfirmed``, how many tasks
        the broker has not confirmed yet; ``blocked``, why it takes none now, or None; and
        ``trouble``, why there is no connection, or None.
        """
        sent = self._submissions
        counts = sent.counts
        found = sent.tasks.statistics(
            [], sent.size(), 0, counts["done"], counts["failed"], counts["retried"]
        )
        found |= {
            "unconfirmed": sent.unconfirmed,
            "blocked": sent.blocked,
            "trouble": sent.trouble,
        }
        return found

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks.

        Args:
            wait: return only when all have been answered, and the connection is closed. Without,
                it is closed once the broker has confirmed all; their answers go nowhere.
            cancel_futures: cancel what has not been answered; workers are asked to drop it.

        It is safe to call this several times.
        """
        sent = self._submissions
        if sent.pid != os.getpid():
            sent.is_closed = True  # it, and what it waits for, is in the parent
            return
        if wait:
            sent.check_wait()
        if cancel_futures:
            self._cancel_announced()
            sent.cancel_all()
        was_closed, sent.is_closed = sent.is_closed, True
        if wait:
            sent.wait_idle()
        if not was_closed or wait:
            sent.close()
        if wait:
            sent.client.join()

    def _give_up(self) -> None:
        self.shutdown(wait=False, cancel_futures=True)

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool | None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            # Whoever presses Ctrl-C does not want to wait for what is still to be done.
            self._give_up()
        self.shutdown(wait=True)
        return None


def _as_options(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a call in Celery's words as those of `ClusterExecutor.options`."""
    words = {"time_limit": "timeout", "soft_time_limit": "soft_timeout", "shadow": "name"}
    return {words.get(name, name): value for name, value in said.items()}


class _Reserved:
    """Where a task goes that was announced."""

    def __init__(self, executor: ClusterExecutor) -> None:
        self._submit = executor._submit

    def _give_back(self) -> None:
        pass


def name_of(fn: Any) -> str:
    """Return the name under which workers know a task.

    Raises:
        TypeError: it has none.
    """
    if isinstance(fn, str):
        return check_name("the name of a task", fn)
    name = getattr(fn, "name", None)
    if isinstance(name, str) and callable(fn):
        return name  # a task of ours, or of Celery's
    if not callable(fn):
        raise TypeError(f"submit() needs a task or the name of one, not {type(fn).__name__}")
    raise TypeError(
        f"{getattr(fn, '__qualname__', fn)!r} is no task: workers know tasks by name; make it one "
        "with @manyhands.task where they import it, or pass a name"
    )
