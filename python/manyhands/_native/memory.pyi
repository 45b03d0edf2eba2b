"""Blocks of shared memory."""

from typing import Any, Self, final

@final
class BlockBuffer:
    """A part of a block of shared memory, with the buffer protocol."""

@final
class SharedBlock:
    """A block of shared memory that several processes may use at the same time."""

    @property
    def address(self) -> tuple[Any, ...]: ...
    @property
    def length(self) -> int: ...
    @property
    def start(self) -> int: ...
    @property
    def name(self) -> str | None: ...
    @property
    def created(self) -> bool: ...
    def description(self) -> bytes: ...
    def view(self, writable: bool) -> memoryview: ...

class SharedBuffer:
    """The bytes of a shared block, by the buffer protocol."""

    def __new__(cls, block: SharedBlock, read_only: bool) -> Self: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def attach(segment_fd: int) -> None:
    """Map the parent's segment, in a zygote."""

def read_block(reference: int) -> bytes:
    """Return the content of a block of the parent's segment, in a zygote."""

def set_shared_memory_limit(limit: int) -> None:
    """Set the most bytes of shared memory; before any is used."""

def shared_memory() -> tuple[int, int]:
    """Return (bytes in use, limit in bytes) of this process's shared memory."""

def named_shared(
    name: str, length: int, layout: int, content: bytes, description: bytes
) -> SharedBlock:
    """Make or open the block of that name, length and layout."""

# A block of zeros, and the one of a name, if there is one.
def new_shared(length: int) -> SharedBlock: ...
def open_named_shared(name: str) -> SharedBlock | None: ...
def share_buffer(buffer: memoryview, /) -> SharedBlock:
    """Copy a contiguous buffer of bytes into shared memory."""

def open_shared(address: tuple[Any, ...], length: int) -> SharedBlock:
    """Open a shared block by its address."""
