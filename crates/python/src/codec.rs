//! Python values as bytes, and back: a compact code for small ones, pickles and their buffers for the rest.

pub(crate) mod compact;
pub(crate) mod payload;
