//! Processes that are stopped in the middle of freeing a block, while its place becomes something else.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

#[path = "../../sync/tests/child/mod.rs"]
mod child;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use child::stepping::look_at_every_store;
use manyhands_channel::arena::{Arena, Block, Participant};
use manyhands_os::memory::Segment;

const MIB: usize = 1 << 20;
const CHUNKS: usize = 8;

struct Ground {
    segment: Arc<Segment>,
    parent: Arena,
}

impl Ground {
    fn new() -> Self {
        let segment = Arc::new(Segment::create(c"test", (CHUNKS + 1) * MIB).expect("a segment"));
        let parent = Arena::create(Arc::clone(&segment), 0..segment.len()).expect("an arena");
        Self { segment, parent }
    }

    fn join(&self) -> Arena {
        Arena::attach(Arc::clone(&self.segment), 0..self.segment.len(), Participant::from(1))
            .expect("attached")
    }
}

/// What the parent does while the child stands still: gives back what it can, and fills all that can be had with zeros.
/// Returns the blocks with them.
fn take_all(parent: &Arena) -> Vec<Block> {
    parent.trim(0);
    let mut taken = Vec::new();
    for len in (1..=CHUNKS).rev().map(|chunks| chunks * MIB - 2000) {
        while let Ok(block) = parent.allocate(len) {
            block.segment().zero(block.offset(), len);
            taken.push(block);
        }
    }
    taken
}

fn is_untouched(block: &Block) -> bool {
    let mut bytes = vec![1; block.len()];
    block.read(0, &mut bytes);
    bytes.iter().all(|byte| *byte == 0)
}

/// Small blocks until the next one is the first of another slab; returns that one apart.
fn fill_slabs(parent: &Arena, slabs: usize) -> (Vec<Block>, Block) {
    let before = parent.in_use();
    let mut blocks = Vec::new();
    loop {
        let block = parent.allocate(30_000).expect("room");
        if parent.in_use() == before + slabs * MIB {
            return (blocks, block);
        }
        blocks.push(block);
    }
}

/// Has a child release the only two blocks of a slab of the parent's, and after `stops` of its stores lets the parent
/// take all memory before it goes on. Returns whether it was stopped then.
fn free_with_a_stop(stops: usize) -> bool {
    let ground = Ground::new();
    let parent = &ground.parent;
    let (first_slab, _) = fill_slabs(parent, 2);
    // What lies before the child's slab, so that with it the slab can become the middle of something large.
    let before = RefCell::new(Some(parent.allocate(MIB).expect("room")));
    let (second_slab, block) = fill_slabs(parent, 1);
    let both = vec![block, parent.allocate(30_000).expect("room")];
    let references: Vec<_> = both.iter().map(Block::reference).collect();
    let mine = RefCell::new(both);
    let taken = RefCell::new(Vec::new());
    let held = RefCell::new(Vec::new());
    let stores = Cell::new(0);
    let stopped = Cell::new(false);
    look_at_every_store(
        || {
            let arena = ground.join();
            held.replace(references.iter().map(|it| arena.open(*it).expect("held by the parent")).collect());
        },
        || drop(held.take()),
        || {
            // Before the child's first store: the parent lets go, so that the child is the last, and not the owner.
            drop(mine.take());
            if stores.get() == stops {
                stopped.set(true);
                drop(before.take());
                taken.replace(take_all(parent));
            }
            stores.set(stores.get() + 1);
        },
    );
    let taken = taken.take();
    assert!(taken.iter().all(is_untouched), "written into after {stops} stores");
    drop((taken, first_slab, second_slab, before.take()));
    parent.trim(0);
    assert_eq!(parent.in_use(), 0, "memory is lost after {stops} stores");
    stopped.get()
}

#[test]
fn who_frees_a_block_writes_nothing_once_its_slab_is_gone() {
    let stops = (0..).take_while(|stops| free_with_a_stop(*stops)).count();
    assert!((4..100).contains(&stops), "{stops}: letting go, freeing, telling the owner");
}
