"""Keeps what a child process is given until it has arrived."""

from __future__ import annotations

import sys

__all__ = ["keep_for_child"]


def keep_for_child(thing: object) -> None:
    """Keep `thing`, which is being pickled by its address, as long as the process it goes to.

    A process that multiprocessing spawns gets its arguments when it has started, and its parent
    forgets them at once: without this, ``Process(target=work, args=(mh.Queue(),)).start()`` would
    send the address of a queue that is gone. In all other pickling this does nothing.

    Args:
        thing: what its address leads to.
    """
    context = sys.modules.get("multiprocessing.context")
    popen = context.get_spawning_popen() if context is not None else None
    if popen is not None:
        popen.__dict__.setdefault("_kept_by_manyhands", []).append(thing)
