//! The shared memory of this process, as Python sees it: its shared heap, shared objects, blocks and their bytes.

pub(crate) mod ffi;
pub(crate) mod objects;
pub(crate) mod shared_block;
pub(crate) mod shared_heap;
