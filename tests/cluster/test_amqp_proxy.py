"""The proxy that our faults come from: it must fail where it is told to, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import amqp
import pytest

from amqp_proxy import BROKER, CLIENT, AmqpProxy
from stock_client import WATCHDOG, stock_connection


@pytest.fixture
def proxy(amqp_url: str) -> Iterator[AmqpProxy]:
    with AmqpProxy(amqp_url) as proxy:
        yield proxy


class Talk:
    """A stock client with a queue of its own, which it consumes."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.channel = connection.channel()
        self.queue = self.channel.queue_declare(exclusive=True).queue
        self.got: list[Any] = []
        self.tag = self.channel.basic_consume(self.queue, callback=self.got.append)

    def send(self, text: str) -> None:
        self.channel.basic_publish(amqp.Message(text), routing_key=self.queue)

    def leave(self) -> None:
        """Stop consuming: that is answered, so all before it has arrived."""
        self.channel.basic_cancel(self.tag)

    def take(self, timeout: float = WATCHDOG) -> str:
        while not self.got:
            self.connection.drain_events(timeout)
        message = self.got.pop()
        self.channel.basic_ack(message.delivery_tag)
        return str(message.body)


@contextmanager
def talk(proxy: AmqpProxy, confirm: bool = True) -> Iterator[Talk]:
    with stock_connection(proxy.url, confirm_publish=confirm) as connection:
        yield Talk(connection)


def round_trip(proxy: AmqpProxy) -> str:
    with talk(proxy) as talking:
        talking.send("hello")
        got = talking.take()
        talking.leave()
        return got


def test_it_forwards_and_names_every_step(proxy: AmqpProxy) -> None:
    assert round_trip(proxy) == "hello"
    steps = [f"{sender}: {step}" for sender, step in proxy.steps]
    assert steps[:3] == [
        "client: protocol-header",
        "broker: connection.start",
        "client: connection.start-ok",
    ]
    assert {
        "client: confirm.select",
        "client: basic.publish",
        "client: header",
        "client: body",
        "broker: basic.ack",
        "broker: basic.deliver",
        "client: basic.ack",
        "broker: connection.close-ok",
    } <= {*steps}
    assert not [each for each in steps if each.rpartition(".")[2].isdigit()]


def test_it_cuts_at_each_step_of_either_side_once(proxy: AmqpProxy) -> None:
    round_trip(proxy)
    for sender, step in dict.fromkeys(
        proxy.steps[: proxy.steps.index((BROKER, "basic.cancel-ok"))]
    ):
        cut = proxy.cut_at(sender, step)
        with pytest.raises(OSError):  # which ConnectionError is, too
            round_trip(proxy)
        assert cut.happened.is_set(), f"{sender}: {step}"
    assert round_trip(proxy) == "hello"


def test_a_cut_can_be_after_a_step(proxy: AmqpProxy) -> None:
    cut = proxy.cut_at(BROKER, "basic.ack", after=True)
    with pytest.raises(OSError):
        round_trip(proxy)
    assert cut.happened.is_set()
    assert proxy.steps[-1] == (BROKER, "basic.ack")


def test_a_cut_can_be_in_the_middle_of_a_step(proxy: AmqpProxy) -> None:
    cut = proxy.cut_at(CLIENT, "body", of_it=9)
    with pytest.raises(OSError):
        round_trip(proxy)
    assert cut.happened.is_set()
    assert (CLIENT, "body") not in proxy.steps


def test_what_is_held_comes_later(proxy: AmqpProxy) -> None:
    with talk(proxy, confirm=False) as talking:
        proxy.hold()
        talking.send("held")
        with pytest.raises(TimeoutError):
            talking.take(timeout=0.2)
        proxy.release()
        assert talking.take() == "held"


def test_new_connections_can_be_refused_and_old_ones_go_on(proxy: AmqpProxy) -> None:
    with talk(proxy) as talking:
        proxy.refuse()
        with pytest.raises(OSError):
            round_trip(proxy)
        talking.send("old")
        assert talking.take() == "old"
    proxy.accept()
    assert round_trip(proxy) == "hello"


def test_all_can_be_cut_at_once(proxy: AmqpProxy) -> None:
    with pytest.raises(OSError), talk(proxy):
        proxy.cut()
    assert round_trip(proxy) == "hello"
