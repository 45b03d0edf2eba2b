"""The threads of a server of datagrams: each handles one after the other."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from manyhands._server.datagram_handler import is_of_sending
from manyhands._server.failure import log_failure
from manyhands._server.thread_workers import ThreadWorkers

if TYPE_CHECKING:
    from manyhands import _native

logger = logging.getLogger("manyhands.server")


class DatagramWorkers(ThreadWorkers):
    """Threads that take datagrams from an engine."""

    def _handle(
        self, ident: int, taken: bytes, address: Any, _calls: _native.StreamCalls | None
    ) -> None:
        server = self._service.server
        self._open.begin(ident, None)
        try:
            self._service.serve((taken, server.socket), address, server)
        except Exception as error:
            if is_of_sending(error):
                self._open.count("disconnected")
                logger.debug("the client at %s gets no reply: %s", address, error)
            elif not self._is_forked():
                log_failure(self._open, server.RequestHandlerClass, address, error)
        finally:
            self._end_if_forked()
            self._open.finish(ident)
