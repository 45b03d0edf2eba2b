"""A local web server that answers slowly, in a process of its own (`_page_program.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands.demo._program import Program

if TYPE_CHECKING:
    from typing import Self

__all__ = ["PageServer"]


class PageServer(Program):
    """Serves ``/page/0``, ``/page/1``, … on this machine; a context manager.

    Args:
        delay: seconds after which a request is answered.

    Attributes:
        url: where it is, such as ``http://127.0.0.1:40123``, once the context is entered.

    Raises:
        OSError: on entering the context, if the server cannot be started.
    """

    def __init__(self, delay: float) -> None:
        super().__init__("_page_program.py", str(delay))
        self.url = ""

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.url = self.told()
        except BaseException:
            self.__exit__()
            raise
        return self
