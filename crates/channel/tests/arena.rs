//! The arena as its participants see it: several of them, in one process.
// Under Miri these megabytes take hours; it checks the unit tests.
#![cfg(not(any(loom, miri)))]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use manyhands_channel::arena::{Arena, Block, BlockRef, Participant};
use manyhands_os::memory::Segment;

const MIB: usize = 1 << 20;
const PARENT: Participant = Participant::PARENT;

/// An arena of `chunks` MiB and `count` participants.
fn arenas(chunks: usize, count: u16) -> Vec<Arena> {
    let segment = Arc::new(Segment::create(c"test", (chunks + 1) * MIB).expect("a segment"));
    let region = 4096..segment.len();
    let parent = Arena::create(Arc::clone(&segment), region.clone()).expect("an arena");
    assert_eq!(parent.limit(), chunks * MIB);
    let attach =
        |number: u16| Arena::attach(Arc::clone(&segment), region.clone(), number.into()).expect("attached");
    let others: Vec<Arena> = (1..count).map(attach).collect();
    [parent].into_iter().chain(others).collect()
}

/// Everything that is free is given back: what is left is a leak.
fn in_use_when_trimmed(arenas: &[Arena]) -> usize {
    for arena in arenas {
        arena.trim(0);
    }
    arenas[0].in_use()
}

fn fill(block: &Block, seed: u8) {
    let bytes: Vec<u8> = (0..block.len()).map(|index| (index as u8).wrapping_add(seed)).collect();
    block.write(0, &bytes);
}

fn is_filled(block: &Block, seed: u8) -> bool {
    let mut bytes = vec![0; block.len()];
    block.read(0, &mut bytes);
    bytes.iter().enumerate().all(|(index, byte)| *byte == (index as u8).wrapping_add(seed))
}

#[test]
fn every_size_is_aligned_and_its_own() {
    let arenas = arenas(40, 1);
    let sizes = [0, 1, 255, 256, 257, 4096, 100_000, 523_000, 524_288, MIB, 3 * MIB + 17];
    let blocks: Vec<Block> = sizes.iter().map(|len| arenas[0].allocate(*len).expect("room")).collect();
    for (seed, block) in blocks.iter().enumerate() {
        assert_eq!(block.len(), sizes[seed]);
        assert_eq!(block.pointer().as_ptr() as usize % 64, 0);
        fill(block, seed as u8);
    }
    for (seed, block) in blocks.iter().enumerate() {
        assert!(is_filled(block, seed as u8), "{block:?}");
    }
    drop(blocks);
    assert_eq!(in_use_when_trimmed(&arenas), 0);
}

#[test]
fn a_block_lives_until_the_last_holder_lets_go() {
    let arenas = arenas(8, 3);
    for len in [100, 2 * MIB] {
        let made = arenas[0].allocate(len).expect("room");
        let reference = made.reference();
        fill(&made, 9);
        let first = arenas[1].open(reference).expect("held by 0");
        let second = arenas[2].open(reference).expect("held by 0");
        let again = arenas[1].open(reference).expect("held by all");
        let clone = again.clone();
        drop((made, first, second));
        assert!(is_filled(&again, 9));
        drop(again);
        assert!(arenas[0].open(reference).is_ok(), "held through the clone");
        assert!(is_filled(&clone, 9));
        drop(clone);
        assert!(arenas[0].open(reference).is_err(), "nobody holds it");
        assert_eq!(in_use_when_trimmed(&arenas), 0);
    }
}

#[test]
fn handing_over_moves_the_hold() {
    let arenas = arenas(8, 3);
    for len in [100, 2 * MIB] {
        let made = arenas[1].allocate(len).expect("room");
        fill(&made, 3);
        let reference = made.hand_over(PARENT);
        assert!(arenas[2].accept(reference).is_err(), "not for 2");
        let block = arenas[0].accept(reference).expect("for 0");
        assert!(is_filled(&block, 3));
        assert!(arenas[0].accept(reference).is_err(), "only once");
        assert!(is_filled(&block, 3));
        let kept = block.clone();
        let reference = block.hand_over(Participant::from(2));
        drop(kept);
        let block = arenas[2].accept(reference).expect("for 2");
        assert!(is_filled(&block, 3));
        drop(block);
        assert_eq!(in_use_when_trimmed(&arenas), 0);
    }
}

#[test]
fn one_block_can_be_handed_over_by_many_and_many_times() {
    let arenas = arenas(4, 6);
    let made = arenas[0].allocate(500).expect("room");
    let reference = made.reference();
    let mut given = Vec::new();
    for arena in &arenas[1..] {
        for _ in 0..3 {
            given.push(arena.open(reference).expect("held by 0").hand_over(PARENT));
        }
    }
    drop(made);
    let accepted: Vec<Block> = given.iter().map(|it| arenas[0].accept(*it).expect("on its way")).collect();
    for reference in given {
        assert!(arenas[0].accept(reference).is_err(), "accepted before");
    }
    drop(accepted);
    assert_eq!(in_use_when_trimmed(&arenas), 0);
}

#[test]
fn references_to_nothing_are_refused() {
    let arenas = arenas(8, 2);
    let small = arenas[0].allocate(100).expect("room");
    let large = arenas[0].allocate(3 * MIB).expect("room");
    for bits in [0, 1, u64::MAX, 1 << 29, small.reference().to_bits() ^ (1 << 9)] {
        assert!(arenas[1].open(BlockRef::from_bits(bits)).is_err(), "{bits:#x}");
    }
    let line = 1 << 29;
    for block in [&small, &large] {
        for lines in [1, 2, 4000, MIB as u64 / 64] {
            let bits = block.reference().to_bits() + lines * line;
            assert!(arenas[1].open(BlockRef::from_bits(bits)).is_err(), "{lines} lines behind");
        }
    }
    let before = small.reference();
    assert!(arenas[0].accept(before).is_err(), "not on its way");
    drop(small);
    let error = arenas[1].open(before).expect_err("freed");
    assert!(error.to_string().contains("no block"), "{error}");
    let next = arenas[0].allocate(100).expect("room");
    assert_eq!(next.reference().to_bits() >> 29, before.to_bits() >> 29, "the same place");
    assert!(arenas[1].open(before).is_err(), "another block there");
}

#[test]
fn a_full_arena_says_how_full() {
    let arenas = arenas(4, 2);
    let error = arenas[0].allocate(5 * MIB).expect_err("too large");
    assert_eq!((error.wanted, error.in_use, error.limit), (5 * MIB, 0, 4 * MIB));
    let run = arenas[1].allocate(3 * MIB - 2000).expect("room");
    let mut small = Vec::new();
    let error = loop {
        match arenas[0].allocate(100_000) {
            Ok(block) => small.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!(error.in_use, 4 * MIB);
    assert!(small.len() >= 7, "{}", small.len());
    assert!(error.to_string().contains("100000 bytes"), "{error}");
    // No chunk is left for a slab of this size: it gets the block of another size that is free.
    small.pop();
    assert!(arenas[0].allocate(1).is_ok());
    drop((run, small));
    assert!(arenas[0].allocate(3 * MIB).is_ok(), "with the empty slab given back");
    assert!(arenas[0].allocate(usize::MAX).is_err());
}

#[test]
fn a_hold_is_bequeathed() {
    let arenas = arenas(3, 3);
    let block = arenas[1].allocate(64).expect("room");
    let reference = block.reference();
    assert!(arenas[2].inherit(reference).is_err(), "nothing was set");
    assert!(arenas[2].bequeath(reference, PARENT).is_err(), "2 does not hold it");
    arenas[1].bequeath(reference, Participant::from(2)).expect("held");
    drop(block);
    assert!(arenas[1].bequeath(reference, PARENT).is_err(), "1 has let go");
    let other = arenas[2].open(reference).expect("held by 2");
    let inherited = arenas[2].inherit(reference).expect("set for it");
    assert_eq!(inherited.len(), 64);
    drop(other);
    assert!(arenas[0].open(reference).is_ok(), "still held by 2");
    drop(inherited);
    assert!(arenas[0].open(reference).is_err(), "freed");
    // Its heir never comes.
    let block = arenas[1].allocate(64).expect("room");
    arenas[1].bequeath(block.reference(), Participant::from(2)).expect("held");
    drop(block);
    arenas[0].reclaim(Participant::from(2));
    assert_eq!(in_use_when_trimmed(&arenas), 0);
}

#[test]
fn what_others_freed_is_used_again() {
    let arenas = arenas(3, 2);
    // Ten times what fits: each block has to be the memory of one that the other participant freed.
    for round in 0..60_000_u32 {
        let block = arenas[0].allocate(400).expect("room");
        block.write(0, &round.to_le_bytes());
        let opened = arenas[1].open(block.reference()).expect("held");
        drop(block);
        let mut bytes = [0; 4];
        opened.read(0, &mut bytes);
        assert_eq!(u32::from_le_bytes(bytes), round);
    }
    assert_eq!(in_use_when_trimmed(&arenas), 0);
}

#[test]
fn many_small_blocks_fill_many_slabs_and_leave_them() {
    let arenas = arenas(20, 2);
    let blocks: Vec<Block> = (0..10_000).map(|_| arenas[0].allocate(900).expect("room")).collect();
    let opened: Vec<Block> =
        blocks.iter().map(|block| arenas[1].open(block.reference()).expect("held")).collect();
    let full = arenas[0].in_use();
    assert!((9 * MIB..=12 * MIB).contains(&full), "{full}");
    drop(blocks);
    assert_eq!(arenas[0].in_use(), full);
    drop(opened);
    assert_eq!(in_use_when_trimmed(&arenas), 0);
}

#[test]
fn large_blocks_reuse_warm_memory() {
    let arenas = arenas(300, 2);
    let first = arenas[0].allocate(64 * MIB).expect("room");
    let other = arenas[1].allocate(64 * MIB).expect("room");
    let (mine, theirs) = (first.offset(), other.offset());
    drop((other, first));
    for _ in 0..3 {
        let block = arenas[0].allocate(64 * MIB).expect("room");
        assert_eq!(block.offset(), mine, "the run that this participant had");
        assert_eq!(arenas[1].allocate(60 * MIB).expect("room").offset(), theirs);
    }
    assert_eq!(arenas[0].in_use(), 0);
    assert_eq!(arenas[0].trim(30 * MIB), 100 * MIB);
    assert_eq!(arenas[0].trim(30 * MIB), 0);
    let bytes = committed(&arenas[0]);
    assert!(bytes <= 31 * MIB, "{bytes} bytes are committed");
}

/// Bytes of the segment that have memory behind them.
fn committed(arena: &Arena) -> usize {
    let file = std::fs::File::from(arena.segment().fd().try_clone_to_owned().expect("a duplicate"));
    let metadata = file.metadata().expect("metadata");
    std::os::unix::fs::MetadataExt::blocks(&metadata) as usize * 512
}

#[test]
fn one_small_block_costs_little_memory() {
    let arenas = arenas(300, 2);
    let before = committed(&arenas[0]);
    let _small = arenas[1].allocate(300).expect("room");
    let cost = committed(&arenas[0]) - before;
    assert!(cost <= 128 << 10, "{cost} bytes for one small block");
}

#[test]
fn threads_share_an_arena() {
    let arenas = arenas(40, 2);
    let (parent, worker) = (&arenas[0], &arenas[1]);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            scope.spawn(move || {
                let mut kept = Vec::new();
                for round in 0..5_000_u32 {
                    let len = ((round * 7919 + thread * 104_729) % 3000) as usize + 8;
                    let block = parent.allocate(len).expect("room");
                    block.write(0, &round.to_le_bytes());
                    block.write(len - 4, &thread.to_le_bytes());
                    let opened = worker.open(block.reference()).expect("held");
                    kept.push((opened, round));
                    if kept.len() > 50 {
                        let (block, round) = kept.swap_remove(round as usize % 50);
                        let mut bytes = [0; 4];
                        block.read(0, &mut bytes);
                        assert_eq!(u32::from_le_bytes(bytes), round);
                        block.read(block.len() - 4, &mut bytes);
                        assert_eq!(u32::from_le_bytes(bytes), thread);
                    }
                }
            });
        }
    });
    assert_eq!(in_use_when_trimmed(&arenas), 0);
}

#[test]
fn arenas_are_told_apart_from_other_memory() {
    let segment = Arc::new(Segment::create(c"test", 4 * MIB).expect("a segment"));
    let whole = 0..segment.len();
    assert!(Arena::attach(Arc::clone(&segment), whole.clone(), 1.into()).is_err(), "none there");
    assert!(Arena::create(Arc::clone(&segment), 0..MIB).is_err(), "too small");
    assert!(Arena::create(Arc::clone(&segment), 0..5 * MIB).is_err(), "not inside");
    Arena::create(Arc::clone(&segment), whole.clone()).expect("an arena");
    assert!(Arena::attach(Arc::clone(&segment), whole.clone(), 512.into()).is_err());
    assert!(Arena::attach(Arc::clone(&segment), 0..3 * MIB, 1.into()).is_err(), "another length");
    assert!(Arena::attach(segment, whole, 511.into()).is_ok());
}

#[test]
fn tags_are_seen_from_outside_as_long_as_the_block_is_used() {
    let arenas = arenas(40, 2);
    let seen = || Arena::tagged(arenas[0].segment(), 4096..arenas[0].segment().len());
    let sizes = [0, 64, 5000, MIB, 3 * MIB + 17];
    let blocks: Vec<Block> = sizes.iter().map(|len| arenas[1].allocate(*len).expect("room")).collect();
    assert_eq!(seen(), [], "nobody has said anything");
    for (tag, block) in (1..).zip(&blocks) {
        fill(block, 7);
        block.set_tag(tag);
        let opened = arenas[0].open(block.reference()).expect("held");
        assert_eq!((opened.tag(), opened.len()), (tag, block.len()));
        assert!(is_filled(&opened, 7));
    }
    let mut found: Vec<_> = seen().into_iter().map(|found| (found.tag, found.offset, found.len)).collect();
    found.sort_unstable();
    let expected: Vec<_> =
        (1..).zip(&blocks).map(|(tag, block)| (tag, block.offset(), block.len())).collect();
    assert_eq!(found, expected);
    let places: Vec<usize> = blocks.iter().map(Block::offset).collect();
    drop(blocks);
    assert_eq!(seen(), []);
    let again: Vec<Block> = sizes.iter().map(|len| arenas[1].allocate(*len).expect("room")).collect();
    assert!(again.iter().any(|block| places.contains(&block.offset())), "a place is used again");
    assert!(again.iter().all(|block| block.tag() == 0));
    assert_eq!(seen(), []);
}

#[test]
fn damaged_arenas_are_looked_at_without_harm() {
    let arenas = arenas(4, 1);
    let segment = arenas[0].segment();
    let block = arenas[0].allocate(64).expect("room");
    block.set_tag(3);
    let whole = 4096..segment.len();
    // All of the table, and of the first chunk's headers, word by word.
    for at in (4096 + 16..4096 + 256).chain(8192..8192 + 8192).step_by(8) {
        let before = segment.word64(at).load(Ordering::Relaxed);
        for word in [u64::MAX, 3, 4, 5, 3 | 99 << 8, 4 | 1 << 40, 1 << 62, before ^ 2] {
            segment.word64(at).store(word, Ordering::Relaxed);
            let found = Arena::tagged(segment, whole.clone());
            assert!(found.iter().all(|block| block.offset + block.len <= segment.len()), "{at}: {found:?}");
        }
        segment.word64(at).store(before, Ordering::Relaxed);
    }
    assert_eq!(Arena::tagged(segment, whole).len(), 1);
    assert_eq!(Arena::tagged(segment, 0..MIB), [], "no arena");
}

#[test]
#[should_panic(expected = "outside a block")]
fn writing_behind_the_end_is_refused() {
    let arenas = arenas(2, 1);
    arenas[0].allocate(10).expect("room").write(8, &[0; 3]);
}
