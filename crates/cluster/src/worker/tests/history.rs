//! Random histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::Shutdown;
use super::world::{Message, SECOND, World};
use crate::link::Refusal;

/// One step of a history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish { put_off: bool },
    Deliver,
    Finish(usize),
    Crash(usize),
    Confirm(usize),
    Refuse(usize, u8),
    Cut,
    Connect,
    Pass(u64),
    Revoke(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(|put_off| Step::Publish { put_off }),
        8 => Just(Step::Deliver),
        6 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Crash),
        10 => any::<usize>().prop_map(Step::Confirm),
        1 => (any::<usize>(), 0_u8..3).prop_map(|(which, why)| Step::Refuse(which, why)),
        1 => Just(Step::Cut),
        2 => Just(Step::Connect),
        3 => (0..2 * SECOND).prop_map(Step::Pass),
        1 => (0_usize..30).prop_map(Step::Revoke),
    ];
    proptest::collection::vec(step, 0..300)
}

fn chosen<K: Copy + Ord, V>(from: &BTreeMap<K, V>, which: usize) -> Option<K> {
    from.keys().nth(which % from.len().max(1)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, each message is answered, and nothing is acknowledged before.
    #[test]
    fn nothing_is_lost(steps in steps(), end in 0_u8..3) {
        let mut world = World::new(2);
        let mut ids = BTreeSet::new();
        for step in steps {
            match step {
                Step::Publish { put_off } => {
                    let id = ids.len().to_string();
                    let eta = put_off.then_some(world.now + SECOND);
                    world.tasks.push_back(Message { eta, ..Message::new(&id) });
                    ids.insert(id);
                }
                Step::Deliver => _ = world.deliver(),
                Step::Finish(which) => if let Some(job) = chosen(&world.running, which) { world.finish(job) },
                Step::Crash(which) => if let Some(job) = chosen(&world.running, which) { world.crash(job) },
                Step::Confirm(which) if world.is_connected => {
                    if let Some(token) = chosen(&world.published, which) { world.confirm(token) }
                }
                Step::Refuse(which, why) if world.is_connected => {
                    let why = [Refusal::Unroutable, Refusal::Nacked, Refusal::Error("no".into())][usize::from(why)].clone();
                    if let Some(token) = chosen(&world.published, which) { world.refuse(token, &why) }
                }
                Step::Cut => world.cut(),
                Step::Connect => world.connect(),
                Step::Pass(time) => world.pass(time),
                Step::Revoke(which) => {
                    world.duties.revoke([which.to_string().as_str()], which % 2 == 0, world.now);
                    world.act();
                }
                Step::Confirm(_) | Step::Refuse(..) => {}
            }
        }
        match end {
            1 => world.duties.shut_down(Shutdown::Warm(None), world.now),
            2 => world.duties.shut_down(Shutdown::Cold, world.now),
            _ => {}
        }
        world.act();
        world.drain();
        prop_assert!(end == 0 || world.has_ended);
        let waiting = |id: &String| world.tasks.iter().any(|message| message.attempt.id == *id);
        for id in &ids {
            prop_assert!(world.fate(id) > 0 || waiting(id), "{} is lost", id);
        }
    }
}
