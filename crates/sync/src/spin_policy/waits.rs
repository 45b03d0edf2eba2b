//! Waits of one kind: how each begins, and what is learned from it. Time here is whatever it is told.

use super::machine::{MOST_WAKING, Machine};
use super::trial::{Plan, Trial};

/// The clock was not looked at for so long (in nanoseconds): this thread had lost its CPU to another one.
const ABSENCE: u64 = 20_000;

/// A waking that was longer ago than this, in nanoseconds, has nothing to do with what is waited for now.
const LATEST: u64 = 2 * MOST_WAKING;

/// What all waits of one kind have been like.
#[derive(Debug)]
pub(super) struct Waits {
    /// Those for somebody who runs, as far as one knows.
    awake: Trial,
    /// Those for somebody whom the waiter has just woken.
    woken: Trial,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// When it began.
    since: u64,
    /// When the waiter had woken somebody; 0: it had not.
    woke_at: u64,
    plan: Plan,
    /// For how long it has looked.
    looked: u64,
    /// For how long of it the thread had lost its CPU.
    absent: u64,
}

impl Waits {
    pub(super) const fn new() -> Self {
        Self { awake: Trial::new(), woken: Trial::new() }
    }

    fn trial(&self, woke_at: u64) -> &Trial {
        if woke_at == 0 { &self.awake } else { &self.woken }
    }

    /// Begins to wait at `now`; `woke_at`: when the waiter last woke somebody, or 0.
    pub(super) fn begin(&self, now: u64, woke_at: u64, machine: &Machine) -> Wait {
        let woke_at = if now < woke_at + LATEST { woke_at } else { 0 };
        Wait { since: now, woke_at, plan: self.trial(woke_at).plan(machine.prices()), looked: 0, absent: 0 }
    }

    /// What was waited for was there at `now`; the waiter still `looked` when it came, or else it slept.
    pub(super) fn found(&self, wait: &Wait, now: u64, looked: bool, machine: &Machine) {
        let waited = now - wait.since;
        match (wait.woke_at, looked) {
            (0, true) => {}
            (0, false) => machine.learn_quick_waking(waited),
            (woke_at, true) => machine.learn_waking(now - woke_at),
            // Two wakings, then: that of the one who was waited for, and the waiter's own.
            (woke_at, false) if now - woke_at < LATEST => machine.learn_waking((now - woke_at) / 2),
            (_, false) => {}
        }
        self.trial(wait.woke_at).learn(wait.plan.way, waited, wait.looked, looked, machine.prices());
    }
}

impl Wait {
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// Until when to look.
    pub(super) fn end(&self) -> u64 {
        self.since + u64::from(self.plan.limit)
    }

    /// The waiter has looked from `seen` to `now`.
    pub(super) fn look(&mut self, seen: u64, now: u64) {
        let passed = now - seen;
        if passed < ABSENCE {
            self.looked += passed;
        } else {
            self.absent += passed;
        }
    }

    /// Whether the waiter had its CPU as long as it looked.
    pub(super) fn was_present(&self) -> bool {
        self.absent == 0
    }

    /// The waiter looks no more: what it has seen of the machine.
    pub(super) fn tell(&self, machine: &Machine) {
        machine.learn_crowding(self.looked, self.absent);
    }
}
