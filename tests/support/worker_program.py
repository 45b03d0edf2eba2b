"""A zygote whose workers take their tasks from a socket: what test_zygote.py runs.

It stands in for the native half of a worker - the loop that claims tasks in shared memory - and
calls the same hooks at the same moments. Everything else is the real thing.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands import _native
from manyhands._worker import worker
from manyhands._worker import zygote as _zygote
from manyhands._worker.worker import Assignment

if TYPE_CHECKING:
    from manyhands._worker.settings import Settings

LARGEST = 1 << 16  # bytes


def run_loop(assignment: Assignment, hooks: worker.Hooks) -> None:
    """Run tasks until the tests close the connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(os.environ["TASKS_ADDRESS"])
        connection.send(assignment.participant.to_bytes(4, "little"))
        while packet := connection.recv(LARGEST):
            task, context, arguments = pickle.loads(packet)
            if task == "idle":
                hooks.idle()
                connection.send(pickle.dumps((True, None, False)))
                continue
            error = None
            answer: bytes | object
            try:
                fn = hooks.loads(task)
                answer = hooks.apply_context(context).run(fn, *arguments)
            except BaseException as raised:
                error = raised
            touched = hooks.finish_task(error)
            if error is None:
                connection.send(pickle.dumps((True, hooks.dumps(answer)[0], touched)))
            else:
                told = hooks.dump_exception(error, "task")
                connection.send(pickle.dumps((False, told, touched)))


def run_worker(assignment: Assignment, settings: Settings) -> None:
    """Do what a forked worker does."""
    worker.main(
        assignment,
        settings,
        run_loop,
        lambda: "CONDEMNED" in os.environ,
        _native.ask_again_if_ignored,
    )


def read_block(reference: int) -> bytes:
    """Return the settings; their "block" is a file named for its reference."""
    return Path(os.environ["BLOCKS"], str(reference)).read_bytes()


def main() -> None:
    """Run the zygote as `zygote.main` does, without a segment."""
    _zygote.prepare()
    zygote = _zygote.Zygote(int(sys.argv[1]), read_block, run_worker, _native.kill_with_descendants)
    os._exit(zygote.serve())


if __name__ == "__main__":
    main()
