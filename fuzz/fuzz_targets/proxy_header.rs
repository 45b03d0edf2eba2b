//! Reads PROXY headers in pieces. The same entry runs with random headers in `crates/server/tests/proxy_header.rs`.
#![no_main]

#[path = "../../crates/server/tests/split/mod.rs"]
mod split;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| split::run(bytes));
