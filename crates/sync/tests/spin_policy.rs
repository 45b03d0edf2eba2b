//! Whether a thread looks at all.
// Loom has models of its own; Miri starts no programs.
#![cfg(not(any(loom, miri)))]

use std::process::Command;

use manyhands_os::procfs;
use manyhands_sync::SpinPolicy;

fn looks() -> u32 {
    let (spin, mut looks) = (SpinPolicy::new(), 0);
    let nothing = spin.look(|| {
        looks += 1;
        None::<()>
    });
    assert!(nothing.is_err());
    looks
}

#[test]
fn a_new_policy_looks_where_there_are_cpus() {
    assert_eq!(looks() > 1, procfs::cpus() > 1);
}

#[test]
fn the_environment_turns_looking_off() {
    let program = std::env::current_exe().expect("this test has a path");
    let status = Command::new(program)
        .args(["--exact", "looks_once", "--ignored"])
        .env("MANYHANDS_SPIN", "0")
        .status()
        .expect("a program that runs can be started");
    assert!(status.success());
}

#[test]
#[ignore = "run by `the_environment_turns_looking_off`, with MANYHANDS_SPIN=0"]
fn looks_once() {
    assert_eq!(looks(), 1);
}
