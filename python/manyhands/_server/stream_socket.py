"""The socket of a connection that a server has accepted."""

from __future__ import annotations

import socket
import sys
from typing import Any

from manyhands import _native


class StreamSocket(socket.socket):
    """A connected socket whose `recv`, `send` and their like give way only when they must wait.

    A `socket.socket` in every other respect. One call of `recv` returns 64 KiB at most, whatever
    it asks for.
    """

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002 - as socket.socket calls it
        proto: int = -1,
        fileno: int | None = None,
        calls: _native.StreamCalls | None = None,
    ) -> None:
        super().__init__(family, type, proto, fileno)
        if calls is None:
            calls = _native.StreamCalls(self.fileno(), self.gettimeout())
        elif (timeout := self.gettimeout()) is not None:
            # socket.setdefaulttimeout() holds for every new socket.
            calls.settimeout(timeout)
        self._calls = calls
        # On the object itself, not on the class: so a call is one call.
        self.recv = calls.recv  # type: ignore[method-assign]
        self.recv_into = calls.recv_into  # type: ignore[method-assign]
        self.send = calls.send  # type: ignore[method-assign]
        self.sendall = calls.sendall  # type: ignore[method-assign]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # multiprocessing hands sockets to other processes, but looks for the very class.
        reduction = sys.modules.get("multiprocessing.reduction")
        reducers = reduction.ForkingPickler._extra_reducers if reduction is not None else {}
        reducer = reducers.get(socket.socket)
        return super().__reduce_ex__(protocol) if reducer is None else reducer(self)

    def is_idle(self) -> bool:
        """Tell whether a handler waits for another request, or for the first."""
        return self._calls.is_idle()

    def read_proxy_header(self) -> Any:
        """Read the PROXY header that comes first, and nothing behind it.

        Returns:
            The address of the proxy's client; None if the proxy has connected for itself.

        Raises:
            OSError: it is none, or has not come within the time-out.
        """
        return self._calls.read_proxy_header()

    def settimeout(self, value: float | None) -> None:
        """As `socket.socket.settimeout`."""
        super().settimeout(value)
        self._calls.settimeout(self.gettimeout())

    def setblocking(self, flag: bool) -> None:
        """As `socket.socket.setblocking`."""
        super().setblocking(flag)
        self._calls.settimeout(self.gettimeout())

    def detach(self) -> int:
        """As `socket.socket.detach`: the number is somebody else's from now on."""
        self._calls.close()
        return super().detach()

    def _real_close(self) -> None:
        self._calls.close()
        super()._real_close()  # type: ignore[misc]
