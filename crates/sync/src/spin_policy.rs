//! How long to look again and again before going to sleep.
//!
//! Sleeping and being woken costs; looking costs a CPU that somebody else may need. What is better depends on how long
//! the wait will be, on what the machine is like and on what else it does. So both are tried now and then, and what they
//! cost is remembered: see [`Trial`]. Two more things make that work.
//!
//! - A thread that has just woken another waits for one that must get up first, which takes much longer than the answer of one that
//!   is awake. The two are different experiences. Otherwise two that wake each other would both sleep ever after:
//!   each would look for as long as answers used to take, and give up before the other one is up.
//! - A thread that spins and loses its CPU learns that others need it: spinning has become more expensive.
//!
//! With one CPU nobody looks: whoever looks keeps the other from producing what is looked for.

mod machine;
#[cfg(all(test, not(loom)))]
mod simulation;
mod trial;
mod waits;

use std::cell::Cell;

use manyhands_os::finding::Finding;
use manyhands_os::{clock, procfs};

use self::machine::Machine;
use self::waits::{Wait, Waits};
use crate::atomic::spin_loop;

/// Looks between two at the clock.
const STRIDE: u32 = 8;

static MACHINE: Machine = Machine::new();

thread_local! {
    /// When this thread last woke another one; 0 when it has waited since.
    static WOKE_AT: Cell<u64> = const { Cell::new(0) };
}

/// Called by a thread that has just woken one that slept.
#[cfg(not(loom))]
pub(crate) fn note_waking() {
    WOKE_AT.set(clock::now());
}

/// How long to look, learned from earlier waits; to be shared by all that wait for the same kind of thing.
///
/// ```
/// use manyhands_sync::SpinPolicy;
///
/// let spin = SpinPolicy::new();
/// assert_eq!(spin.look(|| Some(5)).ok(), Some(5));
/// let spent = spin.look(|| None::<u8>).unwrap_err();
/// // Here it sleeps; then it has come.
/// spent.end();
/// ```
#[derive(Debug)]
pub struct SpinPolicy {
    looks: bool,
    /// The most pauses between two looks.
    widest: u32,
    waits: Waits,
}

/// A wait that has spun without success, and must sleep.
#[must_use = "what the wait was like is learned from `end`"]
#[derive(Clone, Copy, Debug)]
pub struct Spent<'a> {
    /// What learns from it.
    learner: Option<(&'a Waits, Wait)>,
}

impl SpinPolicy {
    /// One that knows nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { looks: true, widest: 1, waits: Waits::new() }
    }

    /// One that looks once and then sleeps.
    #[must_use]
    pub const fn none() -> Self {
        Self { looks: false, ..Self::new() }
    }

    /// The same, but with pauses between looks that grow up to `widest`. For what others change all the time: each look
    /// takes the cache line away from them.
    #[must_use]
    pub const fn with_pauses(self, widest: u32) -> Self {
        Self { widest, ..self }
    }

    /// Calls `attempt` until it returns something or looking longer is not worth it; at least once.
    ///
    /// # Errors
    /// When it is time to sleep. Say [`end`](Spent::end) when the wait is over.
    pub fn look<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Result<T, Spent<'_>> {
        if let Some(value) = attempt() {
            return Ok(value);
        }
        if !(self.looks && can_pay()) {
            return Err(Spent { learner: None });
        }
        let mut pauses = 1;
        let mut look_some = || {
            (0..STRIDE).find_map(|_| {
                (0..pauses).for_each(|_| spin_loop());
                pauses = (pauses * 2).min(self.widest);
                attempt()
            })
        };
        // What comes at once is not worth a look at the clock.
        if let Some(value) = look_some() {
            return Ok(value);
        }
        let mut wait = self.waits.begin(clock::now(), WOKE_AT.replace(0), &MACHINE);
        let (mut found, mut seen) = (None, wait.since());
        while found.is_none() && seen < wait.end() && wait.was_present() {
            found = look_some();
            let now = clock::now();
            wait.look(seen, now);
            seen = now;
        }
        wait.tell(&MACHINE);
        let Some(value) = found else { return Err(Spent { learner: Some((&self.waits, wait)) }) };
        // A thread that was absent does not know since when it was there.
        if wait.was_present() {
            self.waits.found(&wait, seen, true, &MACHINE);
        }
        Ok(value)
    }
}

/// Whether looking can be of use: there is more than one CPU, and the environment variable `MANYHANDS_SPIN` is not `0`.
fn can_pay() -> bool {
    static CAN_PAY: Finding = Finding::new();
    CAN_PAY.get(|| {
        let forbidden = std::env::var_os("MANYHANDS_SPIN").is_some_and(|value| value == "0");
        !forbidden && procfs::cpus() > 1
    })
}

impl Default for SpinPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl Spent<'_> {
    /// The wait is over: what was waited for has come, or its time is up. Not to be said of one that was interrupted,
    /// which would have been longer.
    pub fn end(self) {
        if let Some((waits, wait)) = self.learner {
            waits.found(&wait, clock::now(), false, &MACHINE);
        }
    }
}
