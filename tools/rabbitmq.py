"""Installs Debian's RabbitMQ, of which tests start one of their own; fails if it may not.

Usage: ``python tools/rabbitmq.py``, with a Python that has manyhands
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import debian

from manyhands._cluster.rabbitmq_node import NOT_INSTALLED, find_server

# Debian's scripts ask it whether they may start a service that they have installed.
POLICY = Path("/usr/sbin/policy-rc.d")
REFUSES = "#!/bin/sh\nexit 101\n"


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Have Debian start no service meanwhile, unless the machine has a policy of its own."""
    try:
        file = os.open(POLICY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
    except FileExistsError:
        yield
        return
    try:
        with open(file, "w") as policy:
            policy.write(REFUSES)
        yield
    finally:
        POLICY.unlink()


def main() -> None:
    if find_server() is not None:
        return
    if not debian.may_install():
        sys.exit(NOT_INSTALLED)
    with no_service_starts():
        debian.install_package("rabbitmq-server", "the tests of tests/cluster need a RabbitMQ")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with status {error.returncode}: {' '.join(error.cmd)}")
