"""Bytes that lie in shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from manyhands import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SharedBytes", "place_bytes"]


class SharedBytes(_native.SharedBuffer):
    """Bytes in shared memory; pickled by address. Made by `share`.

    It supports the buffer protocol: whatever takes bytes or a bytearray by their memory (hashing,
    compressing, regular expressions, ``numpy.frombuffer``, sockets and files) takes it, and copies
    nothing. Slices are memoryviews; ``bytes(shared)`` is an ordinary copy. It lives for as long as
    any process uses it.

    Example:
        >>> text = mh.share(b"many hands")
        >>> text[0], bytes(text[5:])
        (109, b'hands')
        >>> with mh.ProcessPoolExecutor(1) as pool:
        ...     pool.submit(len, text).result()
        10
    """

    _block: _native.SharedBlock
    _writable: bool

    def __new__(cls, block: _native.SharedBlock, writable: bool) -> Self:
        made = super().__new__(cls, block, not writable)
        made._block = block
        made._writable = writable
        return made

    def __len__(self) -> int:
        return self._block.length

    def __getitem__(self, index: Any) -> Any:
        return memoryview(self)[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        memoryview(self)[index] = value

    def __iter__(self) -> Iterator[int]:
        return iter(memoryview(self))

    def __bytes__(self) -> bytes:
        return memoryview(self).tobytes()

    def __eq__(self, other: object) -> bool:
        return memoryview(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        begun = bytes(memoryview(self)[:20])
        return f"<SharedBytes of {len(self)}: {begun!r}{'...' if len(self) > len(begun) else ''}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _open, (self._block.address, self._block.length, self._writable)


def place_bytes(data: bytes | bytearray | memoryview, writable: bool) -> SharedBytes:
    """Copy bytes into a block of shared memory."""
    view = memoryview(data)
    if not view.c_contiguous:
        view = memoryview(view.tobytes())
    return SharedBytes(_native.share_buffer(view.cast("B")), writable)


def _open(address: tuple[Any, ...], length: int, writable: bool) -> SharedBytes:
    return SharedBytes(_native.open_shared(address, length), writable)
