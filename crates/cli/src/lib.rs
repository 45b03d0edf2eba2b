//! The `manyhands` command as seen from a terminal: what may be typed, and what is shown for it.
//!
//! Nearly everything here is a pure function: words in, [`arguments::Request`] out; measured rows in, lines
//! out. Only `top` also looks for what it shows ([`top::survey`]) and cleans up ([`top::clean`]). Nothing in this
//! crate knows Python, asks the terminal for its size or writes to it; that is the work of the `python` crate, which
//! hands both directions over.

pub mod arguments;
pub mod bar;
pub mod broker_arguments;
pub mod demo;
pub mod ink;
pub mod page;
pub mod top;
