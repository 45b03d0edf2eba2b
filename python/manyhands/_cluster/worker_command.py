"""`manyhands worker`: run the tasks of a module."""

from __future__ import annotations

import importlib
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhands import _native
from manyhands._cluster.broker_url import broker_url
from manyhands._cluster.worker import ASKED_TO_END, Worker, WorkerError
from manyhands._server.service_manager import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run"]


def run(
    module: str,
    *,
    queues: str,
    workers: str | None,
    broker: str | None,
    broker_file: str | None,
    max_retries: int,
    pickle: bool,
    dev: bool,
    grace: float | None,
    metrics: str | None,
    hostname: str | None,
    events: bool,
) -> int:
    """Work until SIGTERM or Ctrl-C; a second one, or SIGQUIT, does not wait for what runs.

    Args:
        module: what registers the tasks.
        queues: their names, with commas.
        workers: the kind, and how many: ``process:4``.
        broker: its URL.
        broker_file: a file that has it; otherwise it is in ``AMQP_URL``.
        max_retries: how many more times a task is run over which a process has died.
        pickle: whether pickled arguments are taken.
        dev: whether a RabbitMQ is started for this user's programs.
        grace: seconds that what runs has to end.
        metrics: where to answer what has been counted.
        hostname: its name to those who control workers; None: its process and host.
        events: whether it tells what becomes of its tasks before it is asked to.

    Returns:
        The exit status.

    Raises:
        WorkerError: it cannot work.
        BrokerError: there is no file with the broker's URL.
    """
    _import(module)
    kind, _, number = (workers or "process").partition(":")
    manager = ServiceManager()

    def tell(text: str) -> None:
        print(f"manyhands worker: {text}", file=sys.stderr, flush=True)
        if text.startswith("consumes"):
            manager.ready(text)
        elif text == ASKED_TO_END:
            manager.stopping()

    with ExitStack() as stack:
        url = _url(broker, broker_file, dev, stack)
        worker = Worker(
            url,
            [module],
            queues=[name for name in queues.split(",") if name],
            kind=kind,
            slots=int(number) if number else None,
            most_deaths=max_retries + 1,
            pickle=pickle,
            hostname=hostname,
            events=events,
            grace=grace,
            told=tell,
        )
        if metrics is not None:
            from manyhands._cluster.worker_metrics import told_over_http

            stack.enter_context(told_over_http(worker, manager.address_of(metrics)))
        stack.enter_context(_ended_by_signals(worker, manager, grace))
        beat_s = manager.watchdog_s and manager.watchdog_s / 2

        def beat() -> None:
            if beat_s and manager.address:
                _native.tell_service_manager(manager.address, "WATCHDOG=1", wait=False)

        worker.serve(beat, beat_s)
    return 0


def _import(module: str) -> None:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        importlib.import_module(module)
    except ImportError as error:
        if error.name != module:
            raise
        raise WorkerError(
            f"there is no module {module!r} in {here} or among what is installed"
        ) from error


def _url(broker: str | None, file: str | None, dev: bool, stack: ExitStack) -> str:
    if dev:
        from manyhands._cluster.private_broker import PrivateBroker

        try:
            private = stack.enter_context(PrivateBroker.shared())
        except (OSError, RuntimeError) as error:
            raise WorkerError(f"no RabbitMQ can be started: {error}") from error
        return private.url
    return broker_url(broker, file)


@contextmanager
def _ended_by_signals(
    worker: Worker, manager: ServiceManager, grace: float | None
) -> Iterator[None]:
    seen = 0

    def end(number: int, _frame: Any) -> None:
        nonlocal seen
        seen += 1
        manager.stopping()
        worker.shut_down(grace if seen == 1 and number != signal.SIGQUIT else 0)

    numbers = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
