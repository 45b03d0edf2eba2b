"""A stock client of AMQP, for what programs other than ours do to a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

WATCHDOG = 20.0


@contextmanager
def stock_connection(url: str, **options: Any) -> Iterator[Any]:
    """Connect with py-amqp, which Celery uses."""
    place = urlsplit(url)
    with amqp.Connection(
        f"{place.hostname}:{place.port}",
        userid=place.username,
        password=place.password,
        virtual_host=unquote(place.path[1:]),
        connect_timeout=WATCHDOG,
        read_timeout=WATCHDOG,
        **options,
    ) as connection:
        yield connection
