"""Calls that wait for an event loop with room."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyhands._coroutine.call import Call

__all__ = ["Backlog"]


class Backlog:
    """Calls by priority, and of the same one in the order in which they came.

    Those that have been withdrawn stay, as shells, until their turn comes.

    Attributes:
        waiting: how many there are that have not been withdrawn.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._queues: dict[int, deque[Call]] = {}
        # Those of the queues, negative.
        self._order: list[int] = []

    def push(self, call: Call) -> None:
        """Put a call behind those of its priority."""
        rank = -call.options.priority
        queue = self._queues.get(rank)
        if queue is None:
            queue = self._queues[rank] = deque()
            heapq.heappush(self._order, rank)
        queue.append(call)
        self.waiting += 1

    def pop(self) -> Call | None:
        """Take the next call that has not been withdrawn; None if there is none."""
        while self._order:
            queue = self._queues[self._order[0]]
            while queue:
                call = queue.popleft()
                if not call.is_withdrawn:
                    self.waiting -= 1
                    return call
            del self._queues[heapq.heappop(self._order)]
        return None
