//! The state machine with workers played by the test: no process, no descriptor, no clock.

mod announcements;
mod cancel;
mod crew;
mod index;
mod preparation;
mod put_off;
mod reclaim;
mod shortage;
mod stop;
mod timeouts;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use manyhands_channel::arena::Arena;
use manyhands_channel::submission_ring::Entry;
use manyhands_os::memory::Segment;

use super::plan::Action;
use super::worker_slot::CompletionRings;
use super::{Cancelled, Openness, Refused, Settings, State};
use crate::control::{Control, SLOTS};
use crate::slots::{Encoding, Finish, Slots, flag};
use crate::task::{Arguments, Completions, Finished, Function, Options, Outcome, Token};
use crate::worker::{Next, WorkerSide};

const SECOND: u64 = 1_000_000_000;

struct Bench {
    arena: Arc<Arena>,
    participants: u16,
    state: State<u32>,
    function: Arc<Function>,
}

/// A worker played by the test.
struct Actor {
    side: WorkerSide,
    slots: Slots,
    participant: u16,
    worker_slot: usize,
    generation: u32,
}

fn arena() -> Arc<Arena> {
    let segment = Arc::new(Segment::create(c"test", 64 << 20).expect("64 MiB of address space"));
    let all = 0..segment.len();
    Arc::new(Arena::create(segment, all).expect("a segment that is long enough"))
}

impl Bench {
    fn new(workers: usize) -> Self {
        let arena = arena();
        let block = arena.allocate(Control::size()).expect("an empty arena has room");
        let control = Control::new(Arc::clone(arena.segment()), block.offset());
        control.clear();
        std::mem::forget(block);
        let settings = Settings { workers, idle_timeout: Some(60 * SECOND), grace: SECOND };
        let completion_rings = Arc::new(CompletionRings::default());
        let has_completions = Arc::new(AtomicBool::new(false));
        let state = State::new(control, Arc::clone(&arena), completion_rings, has_completions, settings);
        let block = arena.allocate(1).expect("room for a byte");
        let function = Arc::new(Function { id: 1, block, length: 1, name: "f".into() });
        Self { arena, participants: 0, state, function }
    }

    fn submit_with(&mut self, user_data: u32, options: Option<Options>) -> Token {
        let bytes = user_data.to_ne_bytes();
        let arguments = Arguments::Inline(Encoding::Compact, &bytes);
        let options = options.map(Box::new);
        let submitted =
            self.state.submit(user_data, Arc::clone(&self.function), arguments, 0, options, false);
        submitted.expect("an open pool takes tasks")
    }

    fn submit(&mut self, user_data: u32) -> Token {
        self.submit_with(user_data, None)
    }

    /// Carries out the plan; the workers that were forked, and every other action.
    fn plan(&mut self, now: u64) -> (Vec<Actor>, Vec<Action>) {
        let (mut actors, mut others) = (Vec::new(), Vec::new());
        loop {
            let (actions, _) = self.state.plan(now);
            let again = actions.contains(&Action::AddWorkerSlot);
            for action in actions {
                match action {
                    Action::AddWorkerSlot => {
                        let block = self.arena.allocate(crate::control::WorkerStatus::size());
                        self.participants += 1;
                        self.state.add_worker_slot(block.expect("room"), self.participants);
                    }
                    Action::Reclaim(participant) => self.arena.reclaim(participant.into()),
                    Action::Fork(worker_slot, generation) => actors.push(self.actor(worker_slot, generation)),
                    other => others.push(other),
                }
            }
            if !again {
                return (actors, others);
            }
        }
    }

    fn actor(&mut self, worker_slot: usize, generation: u32) -> Actor {
        let (participant, offset) = {
            let worker_slot = &self.state.worker_slots[worker_slot];
            (worker_slot.participant, worker_slot.status.offset())
        };
        let control = self.state.control.clone();
        let side = WorkerSide::new(control.segment(), participant, control.offset(), offset);
        let pid = 1000 + i32::from(participant);
        self.state.worker_started(worker_slot, generation, pid);
        Actor { slots: control.slots(), side, participant, worker_slot, generation }
    }

    /// Kills an actor.
    fn reap(&mut self, actor: &Actor) {
        self.state.worker_gone(actor.worker_slot, actor.generation, Some(9), Some(4096));
        self.state.refill();
    }

    fn take_completions(&mut self) -> Vec<Finished<u32>> {
        self.state.collect();
        let mut completions = Completions::default();
        self.state.take(&mut completions);
        completions.finished
    }

    fn user_data(&mut self) -> Vec<u32> {
        self.take_completions().into_iter().filter_map(|finished| finished.user_data).collect()
    }
}

impl Actor {
    fn claim(&self) -> Option<Entry> {
        let entry = self.claim_only()?;
        self.side.begin(entry, false);
        Some(entry)
    }

    fn claim_only(&self) -> Option<Entry> {
        match self.side.try_next() {
            Some(Next::Task(entry)) => Some(entry),
            _ => None,
        }
    }

    fn argument(&self, entry: Entry) -> u32 {
        let mut bytes = Vec::new();
        self.slots.read_arguments(entry.slot, &mut bytes);
        u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
    }

    fn finish(&self, entry: Entry, flags: u8) -> Finish {
        self.slots.write_result(entry.slot, Encoding::Compact, flags, b"");
        self.side.finish(entry)
    }

    /// Runs one task; its argument.
    fn work(&self) -> Option<u32> {
        let entry = self.claim()?;
        let argument = self.argument(entry);
        assert_eq!(self.finish(entry, 0), Finish::Published);
        Some(argument)
    }
}

fn retrying() -> Options {
    Options { retries: 2, retry_deaths: true, retry_timeouts: true, ..Options::default() }
}

#[test]
fn tasks_run_in_order_and_come_back_once() {
    let mut bench = Bench::new(1);
    for user_data in 0..5 {
        bench.submit(user_data);
    }
    let (actors, others) = bench.plan(0);
    assert_eq!((actors.len(), others), (1, vec![Action::StartZygote]));
    let order: Vec<u32> = std::iter::from_fn(|| actors[0].work()).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!(bench.user_data(), [0, 1, 2, 3, 4]);
    assert!(bench.take_completions().is_empty());
    assert_eq!(bench.state.counts.done, 5);
}

#[test]
fn the_backlog_follows_when_slots_are_free() {
    let mut bench = Bench::new(1);
    let count = u32::try_from(SLOTS).expect("small") * 2 + 7;
    for user_data in 0..count {
        bench.submit(user_data);
    }
    assert!(bench.state.has_backlog());
    let (actors, _) = bench.plan(0);
    let mut order = Vec::new();
    while (order.len() as u32) < count {
        order.extend(std::iter::from_fn(|| actors[0].work()));
        bench.user_data();
    }
    assert!(order.iter().copied().eq(0..count), "first in, first out, across the backlog");
}

#[test]
fn a_death_fails_only_the_running_task() {
    let mut bench = Bench::new(2);
    for user_data in 0..4 {
        bench.submit(user_data);
    }
    let (actors, _) = bench.plan(0);
    actors[0].work();
    actors[0].claim().expect("three tasks are left");
    bench.reap(&actors[0]);
    while actors[1].work().is_some() {}
    let mut died = Vec::new();
    let mut returned = Vec::new();
    for finished in bench.take_completions() {
        let user_data = finished.user_data.expect("no retries here");
        match finished.outcome {
            Outcome::Died(death) => {
                assert_eq!((death.task.as_str(), death.wait_status), ("f", Some(9)));
                died.push(user_data);
            }
            _ => returned.push(user_data),
        }
    }
    assert_eq!((died, returned), (vec![1], vec![0, 2, 3]));
}

#[test]
fn a_result_that_was_complete_survives_its_worker() {
    let mut bench = Bench::new(1);
    bench.submit(7);
    let (actors, _) = bench.plan(0);
    let entry = actors[0].claim().expect("a task");
    // It dies after its result stands, before it is pushed on the completion ring.
    assert_eq!(actors[0].slots.finish(entry, actors[0].participant), Finish::Published);
    bench.reap(&actors[0]);
    assert_eq!(bench.user_data(), [7]);
    assert_eq!(bench.state.counts.failed, 0);
}

#[test]
fn a_task_is_run_again_after_a_death_as_often_as_allowed() {
    let mut bench = Bench::new(1);
    bench.submit_with(3, Some(retrying()));
    for death in 0..3 {
        let (actors, _) = bench.plan(0);
        let entry = actors[0].claim().expect("the task is queued again");
        assert_eq!(actors[0].argument(entry), 3, "its arguments survive");
        assert!(bench.take_completions().is_empty(), "no outcome before death {death}");
        bench.reap(&actors[0]);
    }
    assert!(matches!(bench.take_completions()[0].outcome, Outcome::Died(_)));
    assert_eq!(bench.state.counts.retried, 2);
}

#[test]
fn the_caller_decides_whether_an_exception_is_retried() {
    let mut bench = Bench::new(1);
    let token = bench.submit_with(3, Some(retrying()));
    let (actors, _) = bench.plan(0);
    for retry in [true, false] {
        let entry = actors[0].claim().expect("queued");
        actors[0].finish(entry, flag::RAISED);
        let finished = bench.take_completions();
        assert!(finished[0].user_data.is_none(), "it may be retried, so its user data stays");
        let user_data = bench.state.decide_retry(token, retry);
        assert_eq!(user_data, (!retry).then_some(3));
    }
    assert_eq!((bench.state.counts.retried, bench.state.counts.failed), (1, 1));
}

#[test]
fn what_is_cancelled_before_it_runs_never_runs() {
    let mut bench = Bench::new(1);
    let tokens: Vec<Token> = (0..3).map(|user_data| bench.submit(user_data)).collect();
    assert_eq!(bench.state.cancel(tokens[1], true, 0), Cancelled::Withdrawn(1));
    assert_eq!(bench.state.cancel(tokens[1], true, 0), Cancelled::TooLate);
    let (actors, _) = bench.plan(0);
    assert_eq!(std::iter::from_fn(|| actors[0].work()).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn many_cancellations_do_not_fill_the_ring() {
    let mut bench = Bench::new(1);
    let first = bench.submit(0);
    for user_data in 1..30_000 {
        let token = bench.submit(user_data);
        assert_eq!(bench.state.cancel(token, false, 0), Cancelled::Withdrawn(user_data));
    }
    let last = bench.submit(99);
    assert_ne!(first, last);
    let (actors, _) = bench.plan(0);
    assert_eq!(std::iter::from_fn(|| actors[0].work()).collect::<Vec<_>>(), [0, 99]);
}

#[test]
fn higher_priorities_overtake_what_is_queued() {
    let mut bench = Bench::new(1);
    for user_data in 0..3 {
        bench.submit(user_data);
    }
    let urgent = |priority| Some(Options { priority, ..Options::default() });
    bench.submit_with(10, urgent(1));
    bench.submit_with(20, urgent(2));
    bench.submit_with(5, urgent(-1));
    bench.submit(3);
    let (actors, _) = bench.plan(0);
    let mut order = Vec::new();
    while order.len() < 7 {
        order.extend(std::iter::from_fn(|| actors[0].work()));
        bench.user_data();
    }
    assert_eq!(order, [20, 10, 0, 1, 2, 3, 5]);
}

#[test]
fn workers_come_with_demand_and_go_with_resize() {
    let mut bench = Bench::new(3);
    bench.submit(0);
    assert_eq!(bench.plan(0).0.len(), 1, "one task, one worker");
    for user_data in 1..10 {
        bench.submit(user_data);
    }
    assert_eq!(bench.plan(0).0.len(), 2, "never more than three");
    assert_eq!(
        bench.state.worker_slots.iter().map(|worker_slot| worker_slot.index).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    bench.state.settings.workers = 1;
    assert_eq!(bench.plan(0).1, [Action::WakeWorkers]);
    assert_eq!(bench.state.staff(), 1);
}

#[test]
fn idle_workers_go_after_the_idle_timeout() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    let (actors, _) = bench.plan(0);
    actors[0].work();
    bench.user_data();
    assert_eq!(bench.plan(SECOND).1, []);
    assert_eq!(bench.plan(30 * SECOND).1, []);
    assert_eq!(bench.plan(62 * SECOND).1, [Action::WakeWorkers]);
    assert_eq!(actors[0].side.try_next(), Some(Next::End));
}

#[test]
fn a_closing_pool_finishes_what_it_has_and_ends() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    let (actors, _) = bench.plan(0);
    bench.state.close();
    assert_eq!(bench.state.check_open(), Err(Refused::Closed));
    assert_eq!(actors[0].work(), Some(0));
    assert_eq!(bench.user_data(), [0]);
    assert_eq!(bench.plan(1).1, [Action::WakeWorkers]);
    assert_eq!(actors[0].side.try_next(), Some(Next::End));
    bench.reap(&actors[0]);
    assert_eq!(bench.plan(2).1, [Action::QuitZygote]);
    bench.state.zygote_gone();
    assert_eq!(bench.plan(3).1, [Action::End]);
    assert_eq!(bench.state.openness, Openness::Ended);
}

#[test]
fn a_pool_whose_workers_die_at_birth_gives_up() {
    let mut bench = Bench::new(1);
    bench.submit(0);
    for _ in 0..20 {
        let (actors, _) = bench.plan(0);
        for actor in &actors {
            bench.state.worker_gone(actor.worker_slot, actor.generation, Some(256), None);
        }
    }
    assert!(matches!(bench.take_completions()[0].outcome, Outcome::Broken(_)));
    assert!(matches!(bench.state.check_open(), Err(Refused::Broken(_))));
}

/// A storm of random events: every user data comes out exactly once, whatever dies when.
#[test]
fn every_ticket_comes_out_exactly_once() {
    for seed in 0..if cfg!(miri) { 2 } else { 60 } {
        storm(seed);
    }
}

fn storm(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bench = Bench::new(3);
    let (mut actors, mut busy): (Vec<Actor>, Vec<(usize, Entry)>) = (Vec::new(), Vec::new());
    let (mut tokens, mut out) = (Vec::new(), Vec::new());
    let mut next = 0;
    for now in 0..3000 {
        match random.below(9) {
            0..=2 if next < 800 => {
                let options = (random.below(2) == 0).then(|| Options {
                    priority: i32::try_from(random.below(3)).expect("small") - 1,
                    ..retrying()
                });
                tokens.push(bench.submit_with(next, options));
                next += 1;
            }
            3 | 4 => {
                let idle = (0..actors.len()).find(|index| busy.iter().all(|(of, _)| of != index));
                busy.extend(idle.and_then(|index| Some((index, actors[index].claim()?))));
            }
            5 | 6 if !busy.is_empty() => {
                let (index, entry) = busy.swap_remove(random.below(busy.len()));
                let flags = if random.below(4) == 0 { flag::RAISED } else { 0 };
                let _ = actors[index].finish(entry, flags);
            }
            7 if !actors.is_empty() && random.below(4) == 0 => {
                let index = random.below(actors.len());
                bench.reap(&actors.swap_remove(index));
                let last = actors.len();
                busy.retain(|(of, _)| *of != index);
                busy.iter_mut().filter(|(of, _)| *of == last).for_each(|(of, _)| *of = index);
            }
            8 if !tokens.is_empty() => {
                let token = tokens[random.below(tokens.len())];
                let running = random.below(2) == 0;
                if let Cancelled::Withdrawn(user_data) | Cancelled::Ending(user_data) =
                    bench.state.cancel(token, running, now)
                {
                    out.push(user_data);
                }
            }
            _ => {
                actors.extend(bench.plan(now).0);
                take_out(&mut bench, &mut random, &mut out);
            }
        }
    }
    // What is left is run by one worker that never dies.
    actors.iter().for_each(|actor| bench.reap(actor));
    actors = bench.plan(3000).0;
    while let Some(actor) = actors.first().filter(|_| !bench.state.tasks.is_empty()) {
        while actor.work().is_some() {}
        take_out(&mut bench, &mut random, &mut out);
    }
    take_out(&mut bench, &mut random, &mut out);
    out.sort_unstable();
    assert!(out.iter().copied().eq(0..next), "seed {seed}: each of {next} once, got {out:?}");
}

fn take_out(bench: &mut Bench, random: &mut Random, out: &mut Vec<u32>) {
    for finished in bench.take_completions() {
        let retry = random.below(2) == 0;
        let user_data = finished.user_data.or_else(|| bench.state.decide_retry(finished.token, retry));
        out.extend(user_data);
    }
}

/// Marsaglia's xorshift: enough to shuffle a test.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}
