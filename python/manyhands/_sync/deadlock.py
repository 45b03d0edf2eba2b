"""What a thread says that waits for a lock in a circle.

Every long wait for a lock publishes its stack, mostly for nobody, and must do so quickly. So
nothing is imported for it, and the lines of source are added by the one that is told.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing would be imported in the middle of a wait
if TYPE_CHECKING:
    from types import FrameType

    from manyhands._errors.deadlock import DeadlockError

__all__ = ["deadlock_error", "own_stack"]

# Lines of a stack that are published: the innermost ones say where the wait is.
_MOST_FRAMES = 8
_INDENT = "    "
_BEFORE_FILE, _BEFORE_LINE, _BEFORE_FUNCTION = '  File "', '", line ', ", in "
# The last line of what is published: of a long stack the end arrives.
_BEFORE_THREAD = "thread "
_LONGEST_NAME = 60
# Frames in which threads and processes begin say nothing about where they are.
_STDLIB = os.path.dirname(os.__file__)
_STARTERS = tuple(
    f"{_STDLIB}/{path}"
    for path in ("threading.py", "multiprocessing/", "concurrent/futures/", "runpy.py")
) + ("<frozen runpy>", f"{os.path.dirname(os.path.dirname(__file__))}/_")


def own_stack() -> str:
    """Return the innermost frames of the calling thread as lines, outermost first; and its name."""
    here: FrameType = sys._getframe(1)
    lines: list[str] = []
    frame: FrameType | None = here
    while frame is not None and len(lines) < _MOST_FRAMES:
        if not frame.f_code.co_filename.startswith(_STARTERS):
            lines.append(_line_of(frame))
        frame = frame.f_back
    if not lines:
        lines.append(_line_of(here))
    return "\n".join([*reversed(lines), _BEFORE_THREAD + _own_name()])


def _line_of(frame: FrameType) -> str:
    file, function = frame.f_code.co_filename, frame.f_code.co_name
    return f"{_BEFORE_FILE}{file}{_BEFORE_LINE}{frame.f_lineno}{_BEFORE_FUNCTION}{function}"


def _own_name() -> str:
    """Return the calling thread's name; empty if it has none, as in a program without threads."""
    threading = sys.modules.get("threading")
    if threading is None:
        return ""
    # Not by current_thread(), which makes an object where there is none; and without its lock.
    thread = threading._active.get(threading.get_ident())
    name = "" if thread is None else thread.name
    return " ".join(name.split())[:_LONGEST_NAME]


def _with_source(stack: str) -> str:
    """Return the stack as a traceback shows it: each frame with its line of source, if known."""
    import linecache

    lines: list[str] = []
    for line in stack.splitlines():
        lines.append(line)
        place, _, _ = line.removeprefix(_BEFORE_FILE).rpartition(_BEFORE_FUNCTION)
        file, _, number = place.rpartition(_BEFORE_LINE)
        # What is relative is so to the working directory of another process.
        if line.startswith(_BEFORE_FILE) and file.startswith("/") and number.isdecimal():
            source = linecache.getline(file, int(number)).strip()
            lines += [_INDENT + source] if source else []
    return "\n".join(lines)


def _told(published: str) -> tuple[str, str]:
    """Stack and name of a thread, out of its `own_stack`."""
    stack, _, last = published.rpartition("\n")
    if last.startswith(_BEFORE_THREAD):
        return stack, last.removeprefix(_BEFORE_THREAD)
    return published, ""


def deadlock_error(members: tuple[tuple[int, int, str, str], ...]) -> DeadlockError:
    """Return the error for (pid, thread, lock, stack) of each member, the caller first."""
    from manyhands._errors.deadlock import DeadlockError, DeadlockMember

    told = [_told(published) for *_, published in members]
    circle = tuple(
        DeadlockMember(pid, thread, lock, _with_source(stack))
        for (pid, thread, lock, _), (stack, _) in zip(members, told, strict=True)
    )
    who = [
        f"process {member.pid}, thread {member.thread}" + (f" ({name})" if name else "")
        for member, (_, name) in zip(circle, told, strict=True)
    ]
    heading = f"{len(circle)} threads wait for each other's locks"
    if any(lock.startswith("Lock") for _, _, lock, _ in members):
        heading += ", probably forever (another thread might release a Lock)"
    lines = [heading + ":"]
    for index, member in enumerate(circle):
        holder = who[(index + 1) % len(circle)]
        lines.append(f"- {who[index]} waits for {member.lock}, held by {holder}; its stack:")
        stack = member.stack or "(not known)"
        lines += [_INDENT + line for line in stack.splitlines()]
    return DeadlockError("\n".join(lines), circle)
