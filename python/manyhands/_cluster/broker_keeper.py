"""The process that keeps a private RabbitMQ for those that use it, and ends it with the last.

Each user has a socket to it. Its end, however the user ended, is the end of that use: so nothing
stays behind, not even the data, when a user is killed.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from manyhands._cluster.rabbitmq_node import RabbitMQNode
from manyhands._server.control_socket import ControlSocket

__all__ = ["main"]


class BrokerKeeper:
    """A node and its users.

    Args:
        node: what it keeps.
        listener: where further users come, by a path in the file system; None if there is only one.
    """

    def __init__(self, node: RabbitMQNode, listener: socket.socket | None) -> None:
        self._node = node
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._users = 0
        self._last: ControlSocket | None = None
        if listener is not None:
            self._selector.register(listener, selectors.EVENT_READ)

    def can_start(self, first: socket.socket) -> bool:
        """Start the node for its first user, or tell it why not."""
        try:
            self._node.start()
        except RuntimeError as error:
            ControlSocket(first).tell(error=str(error))
            return False
        self.admit(first)
        return True

    def admit(self, end: socket.socket) -> None:
        """Take in a user, and tell it where the node is."""
        user = ControlSocket(end)
        self._selector.register(user, selectors.EVENT_READ, user)
        self._users += 1
        user.tell(answer=self._node.url())

    def serve(self) -> None:
        """Do what users want, until there are none."""
        while self._users:
            for key, _ in self._selector.select():
                if key.data is None:
                    assert self._listener is not None
                    self.admit(self._listener.accept()[0])
                else:
                    self._attend(key.data)

    def leave(self) -> None:
        """Let nobody find it any more: whoever comes from now on starts another."""
        if self._listener is not None:
            with suppress(OSError):
                Path(self._listener.getsockname()).unlink()
            self._listener.close()

    def _attend(self, user: ControlSocket) -> None:
        wishes = user.hear()
        if wishes is None:
            self._selector.unregister(user)
            self._users -= 1
            if self._users:
                user.close()
            else:
                # It waits until all is removed: then this process ends.
                self._last = user
            return
        for wish in wishes:
            try:
                user.tell(answer=self._do(**wish))
            except RuntimeError as error:
                user.tell(error=str(error))

    def _do(self, wish: str, argument: Any) -> str | None:
        if wish == "ask":
            return self._node.ask(argument)
        if wish == "start":
            self._node.start()
        elif wish == "stop":
            self._node.stop(kill=argument)
        return self._node.url()


def main(user_fd: int, listener_fd: int | None) -> None:
    """Start a node for the user with this socket, and keep it; in the background if others come."""
    if listener_fd is not None and os.fork():
        os._exit(0)
    # Those of a terminal are for the users.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end)
    listener = None if listener_fd is None else socket.socket(fileno=listener_fd)
    first = socket.socket(fileno=user_fd)
    try:
        node = RabbitMQNode()
    except FileNotFoundError as error:
        ControlSocket(first).tell(missing=str(error))
        return
    keeper = BrokerKeeper(node, listener)
    try:
        if keeper.can_start(first):
            keeper.serve()
    finally:
        keeper.leave()
        node.remove()


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
