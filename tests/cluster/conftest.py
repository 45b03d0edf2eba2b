"""The RabbitMQ of a run: one for all its processes, with a virtual host for each file of tests."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import manyhands as mh
from manyhands._cluster.private_broker import PrivateBroker
from manyhands._cluster.rabbitmq_node import NOT_INSTALLED, find_server

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid()}")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture(scope="session", autouse=True)
def connected_once(warm_up: None) -> None:
    """Have this process begin to connect, for which lapin starts a thread that it keeps."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hang_up = threading.Thread(target=lambda: listener.accept()[0].close())
        hang_up.start()
        port = listener.getsockname()[1]
        with pytest.raises(mh.BrokerError):
            mh.ClusterExecutor(f"amqp://127.0.0.1:{port}")
        hang_up.join()


@pytest.fixture(scope="session")
def installed_rabbitmq() -> None:
    """Skip a test that needs a RabbitMQ to be installed, where none is."""
    if find_server() is None:
        pytest.skip(NOT_INSTALLED)


@pytest.fixture(scope="session")
def run_broker(installed_rabbitmq: None) -> Iterator[PrivateBroker]:
    """Return the RabbitMQ that all tests of a run share: do not stop it, or fill it."""
    # A socket's path must be short.
    folder = Path(tempfile.gettempdir()) / f"manyhands-tests-{RUN[:12]}"
    with PrivateBroker.shared(folder) as broker:
        yield broker


@pytest.fixture(scope="module")
def amqp_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a virtual host of this file, or ``AMQP_URL``, which all share."""
    given = os.environ.get("AMQP_URL")
    if given:
        return given
    broker: PrivateBroker = request.getfixturevalue("run_broker")
    return broker.add_vhost(f"{Path(request.node.name).stem}-{WORKER}")
