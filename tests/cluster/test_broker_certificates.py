"""`amqps://`: a broker with a certificate, which wants one from its clients."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import manyhands as mh
from manyhands._cluster import rabbitmq_node
from manyhands._cluster.rabbitmq_node import RabbitMQNode
from stock_celery import stock_app
from task_worker import WATCHDOG, task_worker

pytestmark = pytest.mark.usefixtures("installed_rabbitmq")

# An authority, and for the broker and its client each what it has signed, until the year 2126.
CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
CLIENT = CERTIFICATES / "client.pem"
KEY = CERTIFICATES / "client.key"
SECURED = f"""
listeners.ssl.local = 127.0.0.1:%d
ssl_options.cacertfile = {AUTHORITY}
ssl_options.certfile = {CERTIFICATES}/broker.pem
ssl_options.keyfile = {CERTIFICATES}/broker.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
"""
SHOWN = f"cacertfile={AUTHORITY}&certfile={CLIENT}&keyfile={KEY}"


@pytest.fixture(scope="module")
def secured() -> Iterator[str]:
    """Return the URL of a broker that wants certificates, without any."""
    with socket.socket() as reserved, pytest.MonkeyPatch.context() as patch:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        patch.setattr(rabbitmq_node, "CONFIGURATION", rabbitmq_node.CONFIGURATION + SECURED % port)
        node = RabbitMQNode()
        try:
            node.start()
            plain = urlsplit(node.url())
            yield f"amqps://{plain.username}:{plain.password}@localhost:{port}/%2f"
        finally:
            node.remove()


def test_certificates_given_to_an_executor(secured: str) -> None:
    with mh.ClusterExecutor(secured, cafile=AUTHORITY, certfile=CLIENT, keyfile=KEY) as ex:
        ex.options(ignore_result=True).submit("shop.price", "apple").result(WATCHDOG)
        assert repr(ex).count("amqps://localhost:")


def test_worker_and_executor_find_certificates_by_the_url(tmp_path: Path, secured: str) -> None:
    url = f"{secured}?{SHOWN}"
    with task_worker(tmp_path, url, "secured"), mh.ClusterExecutor(url, queue="secured") as ex:
        assert ex.submit("fleet_tasks.add", 1, 2).result(WATCHDOG) == 3


def test_what_is_missing_is_said(secured: str) -> None:
    secret = urlsplit(secured).password
    assert secret
    for query, word in [
        ("", "certificate"),
        (f"cacertfile={AUTHORITY}", "certificate"),
        (f"certfile={CLIENT}&keyfile={KEY}", "certificate"),
    ]:
        with pytest.raises(mh.BrokerError, match=f"(?i){word}") as caught:
            mh.ClusterExecutor(f"{secured}?{query}", connect_timeout=WATCHDOG)
        assert secret not in str(caught.value)
    with pytest.raises(ValueError, match=r"cacertfile: /nowhere\.pem cannot be read"):
        mh.ClusterExecutor(f"{secured}?cacertfile=/nowhere.pem")


def test_celery_uses_the_same_broker(tmp_path: Path, secured: str) -> None:
    with (
        task_worker(tmp_path, f"{secured}?{SHOWN}", "secured"),
        stock_app(secured, "secured") as app,
    ):
        app.conf.broker_use_ssl = {
            "ca_certs": str(AUTHORITY),
            "certfile": str(CLIENT),
            "keyfile": str(KEY),
        }
        assert app.send_task("fleet_tasks.add", (1, 2)).get(timeout=WATCHDOG) == 3
