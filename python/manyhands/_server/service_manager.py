"""What a service and its manager, systemd, tell each other: sd_notify(3), sd_listen_fds(3)."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ServiceManager"]

# What systemd hands over begins there.
FIRST_INHERITED = 3


class ServiceManager:
    """Whoever has started this process as a service, as its environment says.

    Args:
        environment: where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `LISTEN_FDS` are looked for.

    Raises:
        ValueError: one of them is no number.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.address = environment.get("NOTIFY_SOCKET") or None
        # How often it wants to hear that the service works, in seconds.
        self.watchdog_s: float | None = None
        mine = {None, str(os.getpid())}
        if self.address and environment.get("WATCHDOG_PID") in mine:
            microseconds = _number(environment, "WATCHDOG_USEC")
            self.watchdog_s = microseconds / 1e6 if microseconds else None
        # The descriptors that it has handed over, by their names.
        self.sockets: list[tuple[str, int]] = []
        if environment.get("LISTEN_PID") == str(os.getpid()):
            count = _number(environment, "LISTEN_FDS")
            names = environment.get("LISTEN_FDNAMES", "").split(":")
            names = [name or "unknown" for name in names] + ["unknown"] * (count - len(names))
            self.sockets = [(names[at], FIRST_INHERITED + at) for at in range(count)]

    def ready(self, status: str) -> None:
        """Say that clients are served: for the first time, or after a reload."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it, however it went."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._tell("STOPPING=1")

    def address_of(self, address: str) -> str:
        """Return an address in which a socket that was handed over has its number.

        Raises:
            ValueError: none has that name, or more than one.
        """
        name = address.removeprefix("fd:")
        if name == address or name.isdecimal():
            return address
        numbers = [number for known, number in self.sockets if known == name]
        if len(numbers) != 1:
            raise ValueError(f"{address!r}: {len(numbers)} sockets have that name; {self._all()}")
        return f"fd:{numbers[0]}"

    def only_socket(self) -> str | None:
        """Return the address of the socket that was handed over; None without one.

        Raises:
            ValueError: there are several.
        """
        if len(self.sockets) > 1:
            raise ValueError(f"one socket can be served, say which (--bind fd:3); {self._all()}")
        return f"fd:{self.sockets[0][1]}" if self.sockets else None

    def _all(self) -> str:
        names = ", ".join(f"{name} (fd:{number})" for name, number in self.sockets)
        return f"handed over: {names or 'none'}"

    def _tell(self, state: str) -> None:
        if self.address is None:
            return
        try:
            _native.tell_service_manager(self.address, state, wait=True)
        except OSError as error:
            print(f"manyhands: cannot tell {self.address!r} {state!r}: {error}", file=sys.stderr)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "0")
    if not text.isdecimal():
        raise ValueError(f"{name}={text!r} is no number")
    return int(text)
