//! The arena against a model: random sequences of what participants can do, deaths included.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

use std::mem;
use std::sync::Arc;

use manyhands_channel::arena::{Arena, Block, BlockRef, Participant};
use manyhands_os::memory::Segment;
use proptest::prelude::*;

const MIB: usize = 1 << 20;
const CHUNKS: usize = 6;
const PARTICIPANTS: u16 = 4;

#[derive(Clone, Debug)]
enum Step {
    Allocate { who: u16, len: usize },
    Open { who: u16, handle: usize },
    Clone { handle: usize },
    Drop { handle: usize },
    HandOver { handle: usize, to: u16 },
    Accept { transit: usize },
    Trim { who: u16, keep: usize },
    Die { who: u16 },
}

fn steps() -> impl Strategy<Value = Step> {
    let who = || 0..PARTICIPANTS;
    let any = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 16));
    let len = prop_oneof![
        6 => 0..2000_usize,
        3 => 0..200_000_usize,
        2 => 500_000..5 * MIB / 2,
    ];
    prop_oneof![
        8 => (who(), len).prop_map(|(who, len)| Step::Allocate { who, len }),
        4 => (who(), any()).prop_map(|(who, handle)| Step::Open { who, handle }),
        2 => any().prop_map(|handle| Step::Clone { handle }),
        8 => any().prop_map(|handle| Step::Drop { handle }),
        3 => (any(), who()).prop_map(|(handle, to)| Step::HandOver { handle, to }),
        3 => any().prop_map(|transit| Step::Accept { transit }),
        1 => (who(), 0..3 * MIB).prop_map(|(who, keep)| Step::Trim { who, keep }),
        1 => (1..PARTICIPANTS).prop_map(|who| Step::Die { who }),
    ]
}

/// A handle to a block, and what the model knows of it.
struct Handle {
    who: u16,
    block: Block,
    mark: u64,
}

struct Transit {
    from: u16,
    to: u16,
    reference: BlockRef,
    mark: u64,
}

struct World {
    segment: Arc<Segment>,
    arenas: Vec<Arena>,
    handles: Vec<Handle>,
    transits: Vec<Transit>,
    next_mark: u64,
}

impl World {
    fn new() -> Self {
        let segment = Arc::new(Segment::create(c"test", (CHUNKS + 1) * MIB).expect("a segment"));
        let parent = Arena::create(Arc::clone(&segment), 0..segment.len()).expect("an arena");
        let (handles, transits) = (Vec::new(), Vec::new());
        let mut world = Self { segment, arenas: vec![parent], handles, transits, next_mark: 1 << 40 };
        for who in 1..PARTICIPANTS {
            let arena = world.attach(who);
            world.arenas.push(arena);
        }
        world
    }

    fn attach(&self, who: u16) -> Arena {
        let segment = Arc::clone(&self.segment);
        Arena::attach(segment, 0..self.segment.len(), who.into()).expect("attached")
    }

    fn pick(&self, handle: usize) -> Option<usize> {
        (!self.handles.is_empty()).then(|| handle % self.handles.len())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Allocate { who, len } => self.allocate(who, len),
            Step::Open { who, handle } => {
                let Some(handle) = self.pick(handle) else { return };
                let Handle { block, mark, .. } = &self.handles[handle];
                let mark = *mark;
                let block = self.arenas[usize::from(who)].open(block.reference()).expect("held");
                self.add(who, block, mark);
            }
            Step::Clone { handle } => {
                let Some(handle) = self.pick(handle) else { return };
                let Handle { who, block, mark } = &self.handles[handle];
                let (who, block, mark) = (*who, block.clone(), *mark);
                self.add(who, block, mark);
            }
            Step::Drop { handle } => {
                let Some(handle) = self.pick(handle) else { return };
                let Handle { who, block, mark } = self.handles.swap_remove(handle);
                let reference = block.reference();
                drop(block);
                let known = self.handles.iter().any(|other| other.mark == mark)
                    || self.transits.iter().any(|other| other.mark == mark);
                let open = self.arenas[usize::from(who)].open(reference).is_ok();
                assert_eq!(open, known, "alive as long as somebody has it, and no longer");
            }
            Step::HandOver { handle, to } => {
                let Some(handle) = self.pick(handle) else { return };
                let Handle { who, block, mark } = self.handles.swap_remove(handle);
                let reference = block.hand_over(to.into());
                self.transits.push(Transit { from: who, to, reference, mark });
            }
            Step::Accept { transit } => {
                if self.transits.is_empty() {
                    return;
                }
                let Transit { to, reference, mark, .. } =
                    self.transits.swap_remove(transit % self.transits.len());
                let block = self.arenas[usize::from(to)].accept(reference).expect("on its way");
                self.add(to, block, mark);
            }
            Step::Trim { who, keep } => {
                self.arenas[usize::from(who)].trim(keep);
            }
            Step::Die { who } => self.die(who),
        }
    }

    fn allocate(&mut self, who: u16, len: usize) {
        match self.arenas[usize::from(who)].allocate(len) {
            Ok(block) => {
                self.next_mark += 1;
                let mark = self.next_mark;
                mark_ends(&block, mark);
                self.add(who, block, mark);
            }
            Err(full) => assert_eq!((full.wanted, full.limit), (len, CHUNKS * MIB)),
        }
    }

    fn add(&mut self, who: u16, block: Block, mark: u64) {
        assert!(has_marks(&block, mark), "{block:?}");
        self.handles.push(Handle { who, block, mark });
    }

    /// The process of `who` is gone: none of its handles is dropped.
    fn die(&mut self, who: u16) {
        let (dead, alive): (Vec<_>, Vec<_>) =
            mem::take(&mut self.handles).into_iter().partition(|handle| handle.who == who);
        self.handles = alive;
        dead.into_iter().for_each(mem::forget);
        let next = self.attach(who);
        mem::forget(mem::replace(&mut self.arenas[usize::from(who)], next));
        self.transits.retain(|transit| transit.from != who && transit.to != who);
        self.arenas[0].reclaim(Participant::from(who));
    }

    fn check(&self) {
        for handle in &self.handles {
            assert!(has_marks(&handle.block, handle.mark), "{:?} was overwritten", handle.block);
        }
    }

    /// Everything is released, and all memory is free.
    fn end(mut self) {
        self.handles.clear();
        for Transit { to, reference, .. } in mem::take(&mut self.transits) {
            drop(self.arenas[usize::from(to)].accept(reference).expect("on its way"));
        }
        for arena in &self.arenas {
            arena.trim(0);
        }
        assert_eq!(self.arenas[0].in_use(), 0, "memory is lost");
    }
}

fn mark_ends(block: &Block, mark: u64) {
    let bytes = mark.to_le_bytes();
    if block.len() >= 2 * bytes.len() {
        block.write(0, &bytes);
        block.write(block.len() - bytes.len(), &bytes);
    }
}

fn has_marks(block: &Block, mark: u64) -> bool {
    let mut bytes = [0; 8];
    let mut has_mark = |at| {
        block.read(at, &mut bytes);
        u64::from_le_bytes(bytes) == mark
    };
    block.len() < 16 || (has_mark(0) && has_mark(block.len() - 8))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_is_overwritten(steps in prop::collection::vec(steps(), 1..250)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
        world.end();
    }
}
