"""Where a command finds its broker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from manyhands._errors.cluster import BrokerError

__all__ = ["broker_url", "url_of_development"]

LOCAL: Final = "amqp://guest:guest@localhost/%2f"


def broker_url(broker: str | None, file: str | None) -> str:
    """Return what the command line, a file, or ``AMQP_URL`` says; else that of this machine.

    On this machine it is the RabbitMQ of ``--dev``, while it runs.

    Raises:
        BrokerError: the file cannot be read.
    """
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BrokerError(f"the file with the broker's URL cannot be read: {error}") from error
    return broker or os.environ.get("AMQP_URL") or url_of_development() or LOCAL


def url_of_development() -> str | None:
    """Return the URL of the RabbitMQ that programs of this user share, if it runs."""
    from manyhands._cluster.private_broker import PrivateBroker

    broker = PrivateBroker.running()
    if broker is None:
        return None
    with broker:
        return broker.url
