//! The shared memory of this process, as Python sees it: its ground, shared objects, blocks and their bytes.

pub(crate) mod ffi;
pub(crate) mod ground;
pub(crate) mod objects;
pub(crate) mod shared_block;
