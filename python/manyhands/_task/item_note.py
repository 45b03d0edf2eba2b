"""The note by which an exception says which item of a map it is about.

Imported by workers, so it imports next to nothing.
"""

from __future__ import annotations

from manyhands._pickle.constants import is_constant

TYPE_CHECKING = False  # importing typing would cost every worker's start
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NO_ITEM", "note_items", "sketch", "small"]

_BEGINNING = "manyhands: raised for item"
# Of an exception that is raised for many items, a global one for instance, the latest are told.
_MOST_NOTES = 4

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
# Characters of an item's text that are shown, and items of a tuple.
_LONGEST = 60
_MOST_PARTS = 8
# The decimal digits of big numbers take long to find.
_MOST_BITS = 256

# Stands for an item that is not kept.
NO_ITEM: Any = object()


def note_items(error: BaseException, first: int, count: int = 1, shown: str = "") -> None:
    """Add to `error` a note that says for which items of a map it was raised.

    Args:
        error: any exception. One that refuses notes, as a frozen one does, stays as it is.
        first: the item's place in the input, from 0.
        count: how many items share the exception, because they were one task.
        shown: the item in a few words, or nothing.

    Example:
        >>> error = ValueError("no")
        >>> note_items(error, 17, shown="'abc'")
        >>> error.__notes__
        ["manyhands: raised for item 17 of the map: 'abc'"]
    """
    if count == 1:
        text = f"{_BEGINNING} {first} of the map" + (f": {shown}" if shown else "")
    else:
        last = first + count - 1
        text = f"{_BEGINNING}s {first} to {last} of the map, which ran as one task"
    try:
        notes = getattr(error, "__notes__", None)
        if type(notes) is list:
            if text in notes:
                return
            ours = [note for note in notes if type(note) is str and note.startswith(_BEGINNING)]
            if len(ours) >= _MOST_NOTES:
                notes.remove(ours[0])
        error.add_note(text)
    except Exception:
        pass  # its class refuses: better without a note than not at all


def sketch(item: object) -> str:
    """Return a short text for an item whose ``repr`` is quick and runs no code of the user's.

    Returns:
        The text, or ``""`` for any other item.

    Example:
        >>> sketch((7, "x" * 100))[:20]
        "(7, 'xxxxxxxxxxxxxxx"
        >>> sketch([7])
        ''
    """
    if item is NO_ITEM:
        return ""
    if type(item) is not tuple:
        return _sketch_atom(item)
    if len(item) > _MOST_PARTS:
        return ""
    parts = [_sketch_atom(part) for part in item]
    if not all(parts):
        return ""
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def _sketch_atom(item: object) -> str:
    kind = type(item)
    if kind is str or kind is bytes:
        begun = repr(item[:_LONGEST])  # type: ignore[index]
        return begun if len(item) <= _LONGEST else begun + "..."  # type: ignore[arg-type]
    if kind is int and item.bit_length() > _MOST_BITS:  # type: ignore[attr-defined]
        return ""
    if kind not in _ATOMS and (kind in (tuple, frozenset) or not is_constant(item)):
        return ""
    try:
        text = repr(item)
    except Exception:
        return ""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def small(item: Any) -> Any:
    """Return `item` if it may be kept until its task is done, for what that costs; or `NO_ITEM`.

    Example:
        >>> small(7)
        7
        >>> small([7]) is NO_ITEM
        True
    """
    kind = type(item)
    if kind in _ATOMS:
        if (kind is str or kind is bytes) and len(item) > _LONGEST:
            return NO_ITEM
        return item
    if kind is tuple and len(item) <= _MOST_PARTS and NO_ITEM not in map(small, item):
        return item
    return NO_ITEM
