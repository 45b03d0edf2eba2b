"""The tasks that an executor has sent to a cluster, until their answers have come."""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import threading
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4
from weakref import WeakSet, ref

from manyhands import _native
from manyhands._cluster.json_values import dumps, loads
from manyhands._cluster.options import milliseconds
from manyhands._cluster.raised import raised, unreadable
from manyhands._errors.cluster import BrokerError
from manyhands._future.future import Future  # noqa: TC001 - the native half makes them

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from logging import Logger

    from manyhands._cluster.options import ClusterOptions
    from manyhands._cluster.signature import Signature

__all__ = ["Submission", "Submissions"]

# A connection takes some milliseconds; a broker that starts may take seconds.
CONNECT_S: Final = 10.0
# What pickled answers call themselves.
PICKLE: Final = "application/x-python-serialize"

every: Final[WeakSet[Submissions]] = WeakSet()
_next_number = count(1).__next__


class Submission:
    """A task that was sent.

    Attributes:
        token: the number of its future.
        id: the id of its newest attempt.
        sent: the number of that attempt's publication.
        attempt: the number of that attempt, from 0.
        others: the calls that follow in a chain; the id is that of the last one.
    """

    __slots__ = (
        "args", "attempt", "future", "id", "kwargs", "name", "options", "others", "sent", "token",
    )  # fmt: skip

    def __init__(
        self,
        token: int,
        future: Future[Any],
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: ClusterOptions,
        others: tuple[Signature, ...],
    ) -> None:
        self.others = others
        self.token = token
        self.future = future
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.attempt = 0
        self.id = self.sent = None  # type: Any


class Submissions:
    """What an executor has sent, and its connection.

    Args:
        url: the broker's.
        queue: where tasks go whose options say nothing else.
        name: what the broker's operators see as the name of the connection.
        pickles: whether arguments go pickled.
        connect_timeout: seconds until a broker that does not answer is given up.
        certificates: those to trust instead of the system's, as PEM; or None.
        identity: certificate and key to show, both PEM; or None.

    Raises:
        BrokerError: the broker does not answer, or does not let us in.
    """

    def __init__(
        self,
        url: str,
        queue: str,
        name: str,
        pickles: bool,
        connect_timeout: float,
        certificates: str | None,
        identity: tuple[bytes, bytes] | None,
    ) -> None:
        self.queue = queue
        self.pickles = pickles
        self.pid = os.getpid()
        self.is_closed = False
        self.counts = dict.fromkeys(("done", "failed", "retried"), 0)
        self.unconfirmed = 0
        self.blocked: str | None = None
        self.trouble: str | None = "there is no connection yet"
        this = ref(self)
        self.tasks = _native.PythonTasks(lambda token, _: _ask(this, token), "cluster")
        self._lock = threading.RLock()
        self._by_token: dict[int, Submission] = {}
        self._by_id: dict[str, Submission] = {}
        self._by_publication: dict[int, Submission] = {}
        self._queues: set[str] = set()
        self._idle = threading.Condition(self._lock)
        self._first_news = threading.Event()
        self.has_ended = threading.Event()
        self._thread: int | None = None
        self.reply_queue = str(uuid4())
        self.client = _native.ClusterClient(
            url,
            self._hear,
            name=name,
            reply_queue=self.reply_queue,
            origin=f"gen{self.pid}@{socket.gethostname()}",
            connect_within=connect_timeout,
            certificates=certificates,
            identity=identity,
        )
        self.address = self.client.address
        self._first_news.wait(connect_timeout + 1)
        if self.trouble is not None:
            self.client.close(0.0)
            raise BrokerError(f"the broker at {self.address} does not serve us: {self.trouble}")
        every.add(self)

    def send(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: ClusterOptions,
        future: Future[Any] | None = None,
        others: tuple[Signature, ...] = (),
    ) -> Future[Any]:
        """Publish a task, with those that follow it; return the future of the last one."""
        if self.is_closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self.pid != os.getpid():
            raise RuntimeError(
                "a ClusterExecutor stays in its process: open another one in the child of a fork"
            )
        token = _next_number()
        if future is None:
            future = self.tasks.future(token)
        elif not self.tasks.adopt(future, token):
            return future
        submission = Submission(token, future, name, args, kwargs, options, others)
        with self._lock:
            self._by_token[token] = submission
        try:
            self._publish(submission, 0.0)
        except BaseException:
            with self._lock:
                self._by_token.pop(token, None)
                self._by_id.pop(submission.id, None)
                if self._by_publication.pop(submission.sent, None) is not None:
                    self.unconfirmed -= 1
            raise
        return future

    def _publish(self, submission: Submission, pause: float) -> None:
        """Publish an attempt."""
        options = submission.options
        queue = options.queue or self.queue
        former, task_id = (
            submission.id,
            (submission.attempt == 0 and options.task_id) or str(uuid4()),
        )
        following, submission.id = self._following(submission.others, task_id)
        submission.sent = _next_number()
        settings = options.settings(pause)
        if former is not None:
            settings |= {"root_id": former, "retries": submission.attempt}
        head = (submission.name, task_id)
        send: Callable[..., None]
        if self.pickles:
            body: Any = pickle.dumps((submission.args, submission.kwargs, following), 4)
            send = self.client.submit_pickle
        else:
            body = (dumps(submission.args), dumps(submission.kwargs))
            if submission.others:
                settings["embed"] = dumps(following)
            send = self.client.submit
        with self._lock:
            if submission.id in self._by_id:
                raise ValueError(f"another task with the id {submission.id!r} has not ended yet")
            if queue not in self._queues:
                self._queues.add(queue)
                self.client.declare(queue)
            if not options.ignore_result:
                self._by_id[submission.id] = submission
            self._by_publication[submission.sent] = submission
            self.unconfirmed += 1
        send(submission.sent, queue, head, body, settings, milliseconds())

    def _following(self, others: tuple[Signature, ...], task_id: str) -> tuple[dict[str, Any], str]:
        """Return what follows a task, in the words of the protocol, and the id of the last."""
        if not others:
            return _NOTHING_FOLLOWS, task_id
        chain = []
        for each in others:
            task_id = str(uuid4())
            options = {**each.options, "task_id": task_id, "reply_to": self.reply_queue}
            chain.append(each.as_dict() | {"options": options})
        return _NOTHING_FOLLOWS | {"chain": chain[::-1]}, task_id

    def _hear(self, confirmed: list[int], news: list[tuple[Any, ...]]) -> None:
        """Take what has happened, on the thread of the connection."""
        if self._thread is None:
            self._thread = threading.get_ident()
            self.tasks.mark_thread(True)
        with self._lock:
            self.unconfirmed -= len(confirmed)
            submissions = [self._by_publication.pop(number, None) for number in confirmed]
        for submission in submissions:
            if submission is not None and submission.options.ignore_result:
                self._end(submission, None, None)
        for kind, *details in news:
            getattr(self, f"_hear_{kind}")(*details)

    def _hear_answer(
        self,
        task_id: str,
        state: str,
        result: str,
        error: tuple[str | None, str, str] | None,
        traceback: str | None,
    ) -> None:
        with self._lock:
            submission = self._by_id.get(task_id)
        if submission is None:
            return  # it was cancelled, or answered before
        module, name, shown = error or (None, state, result)
        try:
            value = loads(result if state == "SUCCESS" else shown)
        except ValueError as why:
            self._end(submission, None, unreadable(submission.name, str(why)))
            return
        if state == "SUCCESS":
            self._end(submission, value, None)
        elif state in ("FAILURE", "REVOKED"):
            failure = raised(submission.name, state, module, name, value, traceback)
            self._fail(submission, failure, may_retry=state == "FAILURE")
        elif state == "STARTED":
            submission.future._begin()

    def _hear_opaque(self, task_id: str, content_type: str, data: bytes) -> None:
        with self._lock:
            submission = self._by_id.get(task_id)
        if submission is None:
            return
        if not (self.pickles and content_type == PICKLE):
            why = f"it is {content_type}, and this executor reads JSON only"
            self._end(submission, None, unreadable(submission.name, why))
            return
        try:
            answer = pickle.loads(data)
            status, result = answer["status"], answer["result"]
        except Exception as why:  # a class that is not here, or whatever else pickle runs into
            self._end(submission, None, unreadable(submission.name, f"{type(why).__name__}: {why}"))
            return
        if status == "SUCCESS":
            self._end(submission, result, None)
        else:
            self._fail(submission, result, may_retry=True)

    def _hear_refused(self, number: int, why: str) -> None:
        with self._lock:
            self.unconfirmed -= 1
            submission = self._by_publication.pop(number, None)
        if submission is None:
            return
        queue = submission.options.queue or self.queue
        text = f"task {submission.name!r} was not taken by queue {queue!r} at {self.address}: {why}"
        self._end(submission, None, BrokerError(text))

    def _hear_listening(self) -> None:
        self.trouble = None
        self._first_news.set()

    def _hear_lost(self, reason: str, is_permanent: bool) -> None:
        self.trouble = reason
        self.blocked = None
        self._first_news.set()
        if is_permanent:
            self._fail_all(f"the broker at {self.address} does not let us in any more: {reason}")

    def _hear_blocked(self, reason: str) -> None:
        self.blocked = reason or "the broker says no more"

    def _hear_unblocked(self) -> None:
        self.blocked = None

    def _hear_not_declared(self, name: str, reason: str) -> None:
        self.trouble = f"queue {name!r} cannot be declared: {reason}"
        self._first_news.set()

    def _hear_unreadable(self, task_id: str | None, why: str) -> None:
        with self._lock:
            submission = self._by_id.get(task_id or "")
        if submission is not None:
            self._end(submission, None, unreadable(submission.name, why))
            return
        _logger().warning("an answer at %s cannot be read: %s", self.address, why)

    def _hear_closed(self, unconfirmed: int) -> None:
        self._first_news.set()
        self._fail_all(
            f"the connection to {self.address} was closed before the broker had taken the task"
            if unconfirmed
            else f"the connection to {self.address} was closed before an answer came"
        )
        self.has_ended.set()

    def _fail_all(self, text: str) -> None:
        with self._lock:
            left = list(self._by_token.values())
        for submission in left:
            self._end(submission, None, BrokerError(text))

    def _fail(self, submission: Submission, error: BaseException, may_retry: bool) -> None:
        """End a task, or send it once more."""
        options = submission.options
        again = may_retry and submission.attempt < options.retries
        if not (again and isinstance(error, options.retry_on)):
            self._end(submission, None, error)
            return
        pauses = options.pauses()
        pause = pauses[min(submission.attempt, len(pauses) - 1)] if pauses else 0.0
        with self._lock:
            self._by_id.pop(submission.id, None)
            submission.attempt += 1
            self.counts["retried"] += 1
        try:
            self._publish(submission, pause)
        except Exception as why:  # an argument has changed, and has no form in JSON any more
            self._end(submission, None, why)

    def _end(self, submission: Submission, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._by_token.pop(submission.token, None) is None:
                return
            self._by_id.pop(submission.id, None)
            self._by_publication.pop(submission.sent, None)
            self.counts["done" if error is None else "failed"] += 1
        future = submission.future
        try:
            if not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)
        except BaseException:  # a done-callback has left by SystemExit, say: others wait, too
            _logger().exception("a done-callback of task %r has raised", submission.name)
        with self._idle:
            if not self._by_token:
                self._idle.notify_all()

    def revoke(self, token: int) -> bool:
        """Forget a task, and ask the workers to drop it; say whether it was known."""
        with self._lock:
            submission = self._by_token.pop(token, None)
            if submission is None:
                return False
            self._by_id.pop(submission.id, None)
            self.unconfirmed += 1
            if not self._by_token:
                self._idle.notify_all()
        self.client.revoke(_next_number(), submission.id, milliseconds())
        return True

    def cancel_all(self) -> None:
        """Cancel what has not been answered."""
        with self._lock:
            futures = [submission.future for submission in self._by_token.values()]
        for future in futures:
            future.cancel()

    def wait_idle(self) -> None:
        """Wait until all tasks have been answered."""
        with self._idle:
            self._idle.wait_for(lambda: not self._by_token)

    def check_wait(self) -> None:
        """Raise RuntimeError if the connection's own thread would wait for the connection."""
        if self._thread == threading.get_ident():
            raise RuntimeError(
                "the thread that answers come to would wait here for answers: in a done-callback "
                "use shutdown(wait=False)"
            )

    def close(self) -> None:
        """Take no more tasks, and close the connection once those are taken that there are."""
        self.is_closed = True
        self.client.close(CONNECT_S)

    def size(self) -> int:
        """Return how many tasks have not been answered."""
        return len(self._by_token)

    def orphan(self) -> None:
        """In the child of a fork: fail the futures, whose answers go to the parent."""
        for submission in self._by_token.values():
            _native.PythonTasks.orphan(submission.future, "the task")


# What follows a task: nothing, in the words of the protocol.
_NOTHING_FOLLOWS: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def _logger() -> Logger:
    from logging import getLogger

    return getLogger("manyhands")


def _ask(this: ref[Submissions], token: int) -> bool:
    submissions = this()
    return submissions is not None and submissions.revoke(token)


def _forget_parent() -> None:
    for submissions in list(every):
        submissions.orphan()


def _see_off() -> None:
    """Let the broker confirm what it was sent, at the end of a program that waits for no answer."""
    here = [each for each in every if each.pid == os.getpid()]
    for submissions in here:
        submissions.close()
    end = monotonic() + CONNECT_S + 1
    for submissions in here:
        # A broker that is short of memory reads nothing: not even that the connection ends.
        if submissions.has_ended.wait(max(0.0, end - monotonic())):
            submissions.client.join()


os.register_at_fork(after_in_child=_forget_parent)
atexit.register(_see_off)
