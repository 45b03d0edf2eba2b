"""Socket servers: `Server` and `serve`, and a drop-in for `socketserver`.

    import manyhands.server as socketserver

Every name of that is here, and of the same use; what is better is in the page "In place of
socketserver". A server that is given away to programs
that import `socketserver` themselves takes its place in `sys.modules`, before anything imports it.
"""

from __future__ import annotations

import socketserver as _standard
from socketserver import BaseRequestHandler, DatagramRequestHandler, StreamRequestHandler

from manyhands._server.base_server import BaseServer
from manyhands._server.forking_mixin import ForkingMixIn
from manyhands._server.serve import serve
from manyhands._server.server import Server
from manyhands._server.tcp_server import (
    ForkingTCPServer,
    ForkingUDPServer,
    ForkingUnixDatagramServer,
    ForkingUnixStreamServer,
    TCPServer,
    ThreadingTCPServer,
    ThreadingUDPServer,
    ThreadingUnixDatagramServer,
    ThreadingUnixStreamServer,
    UDPServer,
    UnixDatagramServer,
    UnixStreamServer,
)
from manyhands._server.threading_mixin import ThreadingMixIn

__all__ = [
    "BaseRequestHandler",
    "BaseServer",
    "DatagramRequestHandler",
    "ForkingMixIn",
    "ForkingTCPServer",
    "ForkingUDPServer",
    "ForkingUnixDatagramServer",
    "ForkingUnixStreamServer",
    "Server",
    "StreamRequestHandler",
    "TCPServer",
    "ThreadingMixIn",
    "ThreadingTCPServer",
    "ThreadingUDPServer",
    "ThreadingUnixDatagramServer",
    "ThreadingUnixStreamServer",
    "UDPServer",
    "UnixDatagramServer",
    "UnixStreamServer",
    "serve",
]

# All but the handlers, which are the standard library's own.
for _name in __all__:
    if globals()[_name].__module__ != _standard.__name__:
        globals()[_name].__module__ = __name__

# What else programs take from there, such as `_SocketWriter`, or the version, of which CPython 3.15
# says that it will go.
for _name, _value in vars(_standard).items():
    globals().setdefault(_name, _value)
