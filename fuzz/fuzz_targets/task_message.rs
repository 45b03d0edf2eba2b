//! Reads what may come from a broker. The same entry runs with damaged messages in `crates/cluster/tests/wild_messages.rs`.
#![no_main]

#[path = "../../crates/cluster/tests/wild/mod.rs"]
mod wild;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wild::run(bytes));
