//! Writes at random to the shared memory of queues and pipes and goes on using them. The same entry runs with random
//! scripts in `crates/channel/tests/queue_damage.rs`.
#![no_main]

#[path = "../../crates/channel/tests/damage/mod.rs"]
mod damage;

libfuzzer_sys::fuzz_target!(|script: &[u8]| damage::run(script));
