//! Killing a process at every single store to shared memory.

use super::{Child, News, stop_for_tracing};

/// More instructions than any operation takes: beyond, it waits for something that does not come.
const MOST_STEPS: usize = 400_000;

/// Lets a child run `act` instruction by instruction, and kills it before the first of them that changes shared memory;
/// then, on a new ground, has a new child killed right after that change; then after the second change, and so on until
/// one comes to the end. Calls `survive` after each death.
///
/// `ground` makes what parent and child share, `memory` copies what is to be watched of it, and `prepare` is what the
/// child does before the tracing begins. `act` must not wait for ever. Returns the number of deaths.
pub(crate) fn kill_at_every_store<G>(
    ground: impl Fn() -> G,
    memory: impl Fn(&G) -> Vec<u8>,
    prepare: impl Fn(&G),
    act: impl Fn(&G),
    survive: impl Fn(&G, &str),
) -> usize {
    // Counting changes and not instructions: how many of those there are differs from run to run.
    for stores in 0.. {
        let ground = ground();
        let child = Child::run(|| {
            prepare(&ground);
            stop_for_tracing();
            act(&ground);
        });
        assert_eq!(child.wait(), News::Stopped, "could not be traced");
        let ended = step_until_stored(&child, stores, || memory(&ground));
        child.kill();
        survive(&ground, &format!("killed after {stores} stores"));
        if ended {
            assert!(stores > 1, "nothing was stored");
            return stores;
        }
    }
    unreachable!("there are more numbers than stores")
}

/// Lets a child run until memory has changed `stores` times; returns whether it came to its end before.
fn step_until_stored(child: &Child, stores: usize, memory: impl Fn() -> Vec<u8>) -> bool {
    let mut before = memory();
    let mut left = stores;
    for steps in 1..MOST_STEPS {
        if left == 0 {
            return false;
        }
        let news = child.step();
        if news != News::Stopped {
            assert_eq!(news, News::Exited(0), "after {steps} instructions");
            return true;
        }
        let now = memory();
        if now != before {
            left -= 1;
            before = now;
        }
    }
    panic!("it never ends");
}
