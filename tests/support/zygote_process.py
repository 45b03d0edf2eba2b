"""A zygote and its workers, as their parent sees them: for test_zygote.py and test_worker.py."""

from __future__ import annotations

import os
import pickle
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import manyhands
from manyhands._pickle import pickling, remote_error
from manyhands._worker import settings as _settings

PROGRAM = Path(__file__).parent / "worker_program.py"
PACKAGE_DIR = Path(manyhands.__file__).parent.parent


class Worker:
    """A worker as its parent sees it."""

    def __init__(self, zygote: ZygoteProcess, participant: int, generation: int) -> None:
        self.participant = participant
        self.pipes = [os.pipe() for _ in range(3)]
        zygote.request(
            b"F" + struct.pack("<IIQQI", participant, generation, 0, 0, 0),
            [w for _, w in self.pipes],
        )
        for _, writer in self.pipes:
            os.close(writer)
        answer = zygote.answer()
        assert answer[:1] == b"W"
        number, told, self.pid = struct.unpack("<IIi", answer[1:])
        assert (number, told) == (participant, generation)
        self.tasks: socket.socket | None = None

    def connect(self, listener: socket.socket) -> None:
        """Wait until the worker asks for tasks."""
        self.tasks, _ = listener.accept()
        assert int.from_bytes(self.tasks.recv(4), "little") == self.participant

    def send(self, fn: Callable[..., object], *arguments: object, context: bytes = b"") -> None:
        assert self.tasks is not None
        task = pickling.dumps_in_band(fn)
        self.tasks.send(pickle.dumps((task, context, arguments)))

    def receive(self) -> tuple[Any, bool]:
        """Return the task's result, or raise its exception; and say whether it touched anything."""
        assert self.tasks is not None
        packet = self.tasks.recv(1 << 16)
        if not packet:
            raise EOFError("the worker has ended")
        done, answer, touched = pickle.loads(packet)
        if not done:
            raise remote_error.load_exception(answer)
        return (answer if answer is None else pickling.loads(answer)), touched

    def run(self, fn: Callable[..., Any], *arguments: object, context: bytes = b"") -> Any:
        self.send(fn, *arguments, context=context)
        return self.receive()[0]

    def idle(self) -> None:
        assert self.tasks is not None
        self.tasks.send(pickle.dumps(("idle", b"", ())))
        self.receive()

    def output(self, which: int = 0) -> bytes:
        """Read what is in one of the pipes now; tasks flush before they answer."""
        reader = self.pipes[which][0]
        data = b""
        while select.select([reader], [], [], 0)[0]:
            piece = os.read(reader, 1 << 16)
            if not piece:
                break
            data += piece
        return data

    def reports(self) -> list[tuple[bytes, Any]]:
        data = self.output(2)
        found: list[tuple[bytes, Any]] = []
        while data:
            end = 4 + int.from_bytes(data[:4], "little")
            kind, payload = data[4:5], data[5:end]
            found.append((kind, payload.decode() if kind == b"B" else pickle.loads(payload)))
            data = data[end:]
        return found

    def end(self) -> None:
        """Lets the worker end by itself: there are no more tasks."""
        if self.tasks is not None:
            self.tasks.close()
            self.tasks = None

    def close(self) -> None:
        self.end()
        for reader, _ in self.pipes:
            os.close(reader)


class ZygoteProcess:
    """A zygote and all of its parent's ends."""

    def __init__(
        self,
        directory: Path,
        settings: bytes | None = None,
        version: str = manyhands.__version__,
        **collected: Any,
    ) -> None:
        inherit: list[int] = []
        if settings is None:
            described, inherit = _settings.collect(**collected)
            settings = _settings.dump(described)
        (directory / "7").write_bytes(settings)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(directory / "tasks"))
        self.listener.listen()
        self.control, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {
            **os.environ,
            "PYTHONPATH": str(PACKAGE_DIR),
            "TASKS_ADDRESS": str(directory / "tasks"),
            "BLOCKS": str(directory),
        }
        with child:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(child.fileno())],
                pass_fds=[child.fileno(), *inherit],
                env=environment,
                stderr=subprocess.PIPE,
            )
        self.workers: list[Worker] = []
        self.told: bytes | None = None
        self.request(b"S" + struct.pack("<Q", 7) + version.encode())
        self.ready = self.answer()

    def request(self, packet: bytes, descriptors: list[int] | None = None) -> None:
        socket.send_fds(self.control, [packet], descriptors or [])

    def answer(self) -> bytes:
        return self.control.recv(1 << 16)

    def fork(self, participant: int = 1, generation: int = 1) -> Worker:
        """Return a worker that waits for tasks."""
        worker = self.fork_only(participant, generation)
        worker.connect(self.listener)
        return worker

    def fork_only(self, participant: int = 1, generation: int = 1) -> Worker:
        worker = Worker(self, participant, generation)
        self.workers.append(worker)
        return worker

    def reaped(self, worker: Worker, generation: int = 1) -> int:
        """Wait for the report that a worker has ended; return its exit code, as subprocess."""
        answer = self.answer()
        assert answer[:1] == b"X"
        participant, told, pid, status, rss_bytes = struct.unpack("<IIiiQ", answer[1:])
        assert (participant, told, pid) == (worker.participant, generation, worker.pid)
        assert rss_bytes > 1 << 20
        return os.waitstatus_to_exitcode(status)

    def close(self) -> bytes:
        """Goes away, as a parent that has died does; returns the zygote's standard error."""
        self.control.close()
        self.listener.close()
        if self.told is None:
            _, self.told = self.process.communicate(timeout=30)
            for worker in self.workers:
                worker.close()
        return self.told


@contextmanager
def zygotes(directory: Path) -> Iterator[Callable[..., ZygoteProcess]]:
    """Yield a function that starts zygotes; in the end they must not have complained."""
    started: list[ZygoteProcess] = []

    def start(*arguments: Any, **collected: Any) -> ZygoteProcess:
        own = directory / str(len(started))
        own.mkdir()
        started.append(ZygoteProcess(own, *arguments, **collected))
        return started[-1]

    yield start
    for zygote in started:
        assert zygote.close() == b""


def has_ended(pid: int) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 30)[0])
    finally:
        os.close(pidfd)
