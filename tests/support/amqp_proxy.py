"""A proxy before a broker that knows AMQP 0-9-1 well enough to fail where a test wants it to.

It forwards frame by frame. What a frame says is called a *step*: the name of its method, as
``basic.publish``, or ``protocol-header``, ``header``, ``body`` or ``heartbeat``.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

CLIENT, BROKER = "client", "broker"
KINDS: Final = {2: "header", 3: "body", 8: "heartbeat"}
CLASSES: Final = {
    10: "connection",
    20: "channel",
    40: "exchange",
    50: "queue",
    60: "basic",
    85: "confirm",
}
METHODS: Final = {
    10: {10: "start", 11: "start-ok", 30: "tune", 31: "tune-ok", 40: "open", 41: "open-ok"}
    | {50: "close", 51: "close-ok", 60: "blocked", 61: "unblocked"},
    20: {10: "open", 11: "open-ok", 20: "flow", 21: "flow-ok", 40: "close", 41: "close-ok"},
    40: {10: "declare", 11: "declare-ok", 20: "delete", 21: "delete-ok"}
    | {30: "bind", 31: "bind-ok"},
    50: {10: "declare", 11: "declare-ok", 20: "bind", 21: "bind-ok", 30: "purge", 31: "purge-ok"}
    | {40: "delete", 41: "delete-ok", 50: "unbind", 51: "unbind-ok"},
    60: {10: "qos", 11: "qos-ok", 20: "consume", 21: "consume-ok", 30: "cancel", 31: "cancel-ok"}
    | {40: "publish", 50: "return", 60: "deliver", 70: "get", 71: "get-ok", 72: "get-empty"}
    | {80: "ack", 90: "reject", 110: "recover", 111: "recover-ok", 120: "nack"},
    85: {10: "select", 11: "select-ok"},
}
HEAD: Final = struct.Struct("!BHI")
PROTOCOL_HEADER: Final = 8
RESET: Final = struct.pack("ii", 1, 0)
WATCHDOG = 30.0


def step_of(frame: bytes) -> str:
    """Return what a frame says."""
    kind = frame[0]
    if kind != 1:
        return KINDS.get(kind, f"frame-{kind}")
    number, method = struct.unpack_from("!HH", frame, HEAD.size)
    return f"{CLASSES.get(number, number)}.{METHODS.get(number, {}).get(method, method)}"


def frames(read: Callable[[int], bytes], has_header: bool) -> Iterator[tuple[str, bytes]]:
    """Yield (step, bytes) of all that one side sends."""
    if has_header:
        yield "protocol-header", read(PROTOCOL_HEADER)
    while True:
        head = read(HEAD.size)
        frame = head + read(HEAD.unpack(head)[2] + 1)
        yield step_of(frame), frame


class Cut:
    """Where connections are cut, once.

    Args:
        sender: `CLIENT` or `BROKER`.
        step: at what it sends.
        skip: after so many of them.
        after: when that has been forwarded, instead of before.
        of_it: in the middle: after so many bytes of it.
    """

    def __init__(
        self, sender: str, step: str, skip: int = 0, *, after: bool = False, of_it: int = 0
    ) -> None:
        self.sender = sender
        self.step = step
        self.skip = skip
        self.after = after
        self.of_it = of_it
        self.happened = threading.Event()

    def is_at(self, sender: str, step: str) -> bool:
        """Count this step, and tell whether it is the one."""
        if self.happened.is_set() or (sender, step) != (self.sender, self.step):
            return False
        self.skip -= 1
        return self.skip < 0


class Pair:
    """A client's connection and the one to the broker. Two threads use them; the last closes."""

    def __init__(self, client: socket.socket, broker: socket.socket) -> None:
        self.client = client
        self.broker = broker
        self._is_cut = False
        self._users = 2
        self._lock = threading.Lock()

    def reset(self, how: int = socket.SHUT_RD) -> None:
        """Have both end as in a failing network: at once, and without a farewell."""
        self._is_cut = True
        for each in (self.client, self.broker):
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # Wakes the thread that reads. To shut the other way would be a farewell.
                each.shutdown(how)

    def pass_end(self, sink: socket.socket) -> None:
        """One side has nothing more to say; the other may."""
        with suppress(OSError):
            if not self._is_cut:
                sink.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """One of the threads has ended."""
        with self._lock:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self.client.close()
            self.broker.close()


class AmqpProxy:
    """A port that leads to a broker.

    Example:
        >>> with AmqpProxy(url) as proxy:
        ...     cut = proxy.cut_at(CLIENT, "basic.publish")
        ...     ...  # publish by proxy.url
        ...     assert cut.happened.wait(10)
    """

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        assert place.hostname is not None
        self._target = (place.hostname, place.port or 5672)
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.url = place._replace(
            netloc=f"{place.netloc.rpartition('@')[0]}@{host}:{port}"
        ).geturl()
        self.steps: list[tuple[str, str]] = []
        """(sender, step) of all that has been forwarded."""
        self.delay_s = 0.0
        """How long each frame is held up."""
        self._flows = threading.Event()
        self._flows.set()
        self._accepts = True
        self._cuts: list[Cut] = []
        self._lock = threading.Lock()
        self._pairs: list[Pair] = []
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self._start(self._accept)

    def __enter__(self) -> AmqpProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(WATCHDOG)  # no more come
        for pair in self._pairs:
            pair.reset(socket.SHUT_RDWR)  # frees those who cannot write
        for thread in self._threads:
            thread.join(WATCHDOG)
            assert not thread.is_alive(), "a thread of the proxy does not end"

    def cut_at(
        self, sender: str, step: str, skip: int = 0, *, after: bool = False, of_it: int = 0
    ) -> Cut:
        """Cut the connection at that step, once; see `Cut`."""
        cut = Cut(sender, step, skip, after=after, of_it=of_it)
        with self._lock:
            self._cuts.append(cut)
        return cut

    def cut(self) -> None:
        """Reset all connections that there are; new ones are let through."""
        with self._lock:
            pairs = [*self._pairs]
        for pair in pairs:
            pair.reset()

    def hold(self) -> None:
        """Be a black hole: connections stay, and nothing passes until `release`."""
        self._flows.clear()

    def release(self) -> None:
        """Forward again, from what was held on."""
        self._flows.set()

    def refuse(self) -> None:
        """Close new connections until `accept`; those that there are go on."""
        self._accepts = False

    def accept(self) -> None:
        """Let new connections through again."""
        self._accepts = True

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self._accepts:
                    raise ConnectionRefusedError
                broker = socket.create_connection(self._target, WATCHDOG)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            pair = Pair(client, broker)
            with self._lock:
                self._pairs.append(pair)
            self._start(self._pump, CLIENT, pair)
            self._start(self._pump, BROKER, pair)

    def _pump(self, sender: str, pair: Pair) -> None:
        source, sink = (pair.client, pair.broker)[:: 1 if sender == CLIENT else -1]

        def read(count: int) -> bytes:
            taken = b""
            while len(taken) < count:
                part = source.recv(count - len(taken))
                if not part:
                    raise EOFError
                taken += part
            return taken

        try:
            for step, frame in frames(read, sender == CLIENT):
                self._flows.wait()
                self._ended.wait(self.delay_s)
                self._forward(sender, step, frame, sink)
        except EOFError:
            pair.pass_end(sink)
        except OSError:
            pair.reset()
        finally:
            pair.leave()

    def _forward(self, sender: str, step: str, frame: bytes, sink: socket.socket) -> None:
        with self._lock:
            here = [cut for cut in self._cuts if cut.is_at(sender, step)]
        if not here or here[0].after:
            self.steps.append((sender, step))  # first: whoever gets it may look
            sink.sendall(frame)
        elif here[0].of_it:
            sink.sendall(frame[: here[0].of_it])
        if here:
            here[0].happened.set()
            raise ConnectionResetError
