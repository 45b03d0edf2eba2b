//! Participants that die: killed while they hold blocks, and at every instruction of what they do.
// Neither loom nor Miri knows shared memory or processes.
#![cfg(not(any(loom, miri)))]

#[path = "../../sync/tests/child/mod.rs"]
mod child;

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::sync::Arc;

use child::{Child, News, stop_for_tracing};
use manyhands_channel::arena::{Arena, Block, BlockRef, Participant};
use manyhands_os::memory::Segment;
use manyhands_os::socket;

const MIB: usize = 1 << 20;
const PARENT: Participant = Participant::PARENT;

struct Ground {
    segment: Arc<Segment>,
    parent: Arena,
}

impl Ground {
    /// An arena of `chunks` MiB.
    fn new(chunks: usize) -> Self {
        let segment = Arc::new(Segment::create(c"test", (chunks + 1) * MIB).expect("a segment"));
        let parent = Arena::create(Arc::clone(&segment), 0..segment.len()).expect("an arena");
        Self { segment, parent }
    }

    fn join(&self, number: u16) -> Arena {
        let segment = Arc::clone(&self.segment);
        Arena::attach(segment, 0..self.segment.len(), number.into()).expect("attached")
    }

    /// All memory can be had again.
    fn assert_all_free(&self, what: &str) {
        self.parent.trim(0);
        assert_eq!(self.parent.in_use(), 0, "memory is lost: {what}");
        let all = self.parent.allocate(self.parent.limit() - MIB).map(|block| block.len());
        assert!(all.is_ok(), "{all:?}: {what}");
    }
}

#[test]
fn what_a_killed_worker_held_is_freed() {
    let ground = Ground::new(40);
    let shared = ground.parent.allocate(1000).expect("room");
    let argument = ground.parent.allocate(5 * MIB).expect("room");
    let (first, second) = (shared.reference(), argument.reference());
    let worker = Child::run(|| {
        let arena = ground.join(1);
        let held: Vec<Block> = [first, second].map(|it| arena.open(it).expect("held")).into();
        let own: Vec<Block> = (0..3000).map(|index| arena.allocate(index * 3).expect("room")).collect();
        let large = arena.allocate(3 * MIB).expect("room");
        let _ = arena.allocate(50).expect("room").hand_over(PARENT);
        let _ = large.clone().hand_over(PARENT);
        stop_for_tracing();
        drop((held, own, large));
    });
    assert_eq!(worker.wait(), News::Stopped);
    let before = ground.parent.in_use();
    drop(argument);
    worker.kill();
    assert_eq!(ground.parent.in_use(), before, "the dead release nothing");
    ground.parent.reclaim(1.into());
    assert_eq!(ground.parent.in_use(), MIB, "the slab of the shared block");
    let mut bytes = [0; 4];
    shared.read(0, &mut bytes);
    drop(shared);
    ground.assert_all_free("after the death of a worker");
}

#[test]
fn results_of_the_dead_are_kept_when_accepted_in_time() {
    let ground = Ground::new(10);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let worker = Child::run(|| {
        let arena = ground.join(1);
        for len in [700, 2 * MIB] {
            let block = arena.allocate(len).expect("room");
            block.write(0, b"result");
            let reference = block.hand_over(PARENT).to_bits();
            std::io::Write::write_all(&mut &writer, &reference.to_le_bytes()).expect("written");
        }
        stop_for_tracing();
    });
    assert_eq!(worker.wait(), News::Stopped);
    let accepted = [(); 2].map(|()| {
        let mut bytes = [0; 8];
        std::io::Read::read_exact(&mut &reader, &mut bytes).expect("read");
        ground.parent.accept(BlockRef::from_bits(u64::from_le_bytes(bytes))).expect("on its way")
    });
    worker.kill();
    ground.parent.reclaim(1.into());
    // The number is used again: the new participant has nothing of the old one.
    let next = ground.join(1);
    let own = next.allocate(700).expect("room");
    own.write(0, b"other!");
    for block in &accepted {
        let mut bytes = [0; 6];
        block.read(0, &mut bytes);
        assert_eq!(&bytes, b"result");
    }
    drop((accepted, own));
    next.trim(0);
    ground.assert_all_free("after accepting");
}

#[test]
fn slabs_of_the_dead_are_used_again() {
    let ground = Ground::new(3);
    for round in 0..20 {
        let worker = Child::run(|| {
            let arena = ground.join(1);
            let kept: Vec<Block> =
                (0..2000).map(|_| arena.allocate(900).expect("room for one slab")).collect();
            stop_for_tracing();
            drop(kept);
        });
        assert_eq!(worker.wait(), News::Stopped, "round {round}");
        worker.kill();
        ground.parent.reclaim(1.into());
    }
    ground.assert_all_free("after twenty deaths");
}

#[test]
fn a_forked_copy_touches_nothing() {
    let ground = Ground::new(8);
    let block = ground.parent.allocate(100).expect("room");
    block.write(0, b"mine");
    // After the fork each process has its own cell, and what it takes out of it the other still has.
    let handles = RefCell::new(vec![block.clone(), block]);
    let child = Child::run(|| {
        let mine = handles.take();
        let mut bytes = [0; 4];
        mine[0].read(0, &mut bytes);
        assert_eq!(&bytes, b"mine", "readable");
        drop(mine[0].clone());
        assert!(ground.parent.allocate(10).is_err());
        assert!(ground.parent.open(mine[0].reference()).is_err());
        assert_eq!(ground.parent.trim(0), 0);
        drop(mine);
    });
    assert_eq!(child.wait(), News::Exited(0));
    let reference = handles.borrow()[0].reference();
    assert!(ground.parent.open(reference).is_ok(), "still held by the parent");
    drop(handles.take());
    assert!(ground.parent.open(reference).is_err(), "by nobody else");
    ground.assert_all_free("after a fork");
}

/// Makes results until it is killed: tells the parent of each, with a mark that its bytes have to bear.
fn work(arena: &Arena, shared: BlockRef, socket: impl AsFd, seed: u64) {
    let mut random = seed;
    loop {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let len = [20, 300, 5000, 70_000, 600_000, 2 * MIB][(random >> 40) as usize % 6];
        let opened = arena.open(shared).expect("the parent holds it");
        let Ok(block) = arena.allocate(len) else {
            // The parent has not come to free the others' results.
            std::thread::yield_now();
            continue;
        };
        block.write(0, &random.to_le_bytes());
        block.write(len - 8, &random.to_le_bytes());
        drop(opened);
        let mut packet = block.hand_over(PARENT).to_bits().to_le_bytes().to_vec();
        packet.extend(random.to_le_bytes());
        socket::send_packet(&socket, &packet, &[]).expect("sent");
    }
}

/// Accepts the results that have come and looks at their marks; returns how many.
fn accept_results(parent: &Arena, socket: impl AsFd, kept: &mut Vec<Block>) -> usize {
    let mut packet = [0; 16];
    let mut count = 0;
    while let Ok((16, _)) = socket::recv_packet(&socket, &mut packet) {
        let (reference, mark) = packet.split_at(8);
        let bits = u64::from_le_bytes(reference.try_into().expect("eight bytes"));
        let block = parent.accept(BlockRef::from_bits(bits)).expect("on its way");
        let (mut first, mut last) = ([0; 8], [0; 8]);
        block.read(0, &mut first);
        block.read(block.len() - 8, &mut last);
        assert_eq!((&first[..], &last[..]), (mark, mark));
        kept.push(block);
        count += 1;
    }
    count
}

#[test]
fn a_storm_of_deaths_loses_nothing() {
    const WORKERS: u16 = 3;
    const DEATHS: u64 = 60;
    let ground = Ground::new(30);
    let shared = ground.parent.allocate(2000).expect("room");
    let reference = shared.reference();
    let start = |number: u16, seed: u64| {
        let (here, there) = socket::seqpacket_pair().expect("a pair");
        socket::set_nonblocking(&here, true).expect("set");
        let worker = Child::run(|| work(&ground.join(number), reference, &there, seed));
        (worker, here, 0)
    };
    let mut workers: Vec<_> = (1..=WORKERS).map(|number| start(number, u64::from(number))).collect();
    let mut kept = Vec::new();
    let mut deaths = 0;
    while deaths < DEATHS {
        for number in 1..=WORKERS {
            let (worker, socket, results) = &mut workers[usize::from(number) - 1];
            *results += accept_results(&ground.parent, &*socket, &mut kept);
            kept.truncate(8);
            // Some after their first results, some in the middle of many.
            if *results > (deaths % 20) as usize * 3 {
                deaths += 1;
                worker.kill();
                accept_results(&ground.parent, &*socket, &mut kept);
                ground.parent.reclaim(number.into());
                workers[usize::from(number) - 1] = start(number, deaths << 32);
            }
        }
    }
    for (number, (worker, socket, _)) in (1..).zip(workers) {
        worker.kill();
        accept_results(&ground.parent, &socket, &mut kept);
        ground.parent.reclaim(Participant::from(number));
    }
    drop((kept, shared));
    ground.assert_all_free("after the storm");
}

/// How many instructions a test may trace: at some microseconds each, a fraction of a second. The environment variable
/// `MANYHANDS_TRACE` sets another number; with a thousand times as many every instruction gets its death.
fn instructions_to_trace() -> usize {
    let number = std::env::var("MANYHANDS_TRACE").ok().and_then(|text| text.parse().ok());
    number.unwrap_or(30_000)
}

/// Runs `act` in a child, kills it after each number of instructions (or an even sample of them), and looks whether all
/// memory comes back.
fn kill_at_every_instruction(
    chunks: usize,
    prepare: impl Fn(&Arena, &[BlockRef]),
    act: impl Fn(&Arena, &[BlockRef]),
) {
    let mut every = 1;
    let mut steps_in_all = 0;
    let mut death = 0;
    loop {
        let ground = Ground::new(chunks);
        let small = ground.parent.allocate(1000).expect("room");
        let large = ground.parent.allocate(MIB).expect("room");
        let references = [small.reference(), large.reference()];
        let child = Child::run(|| {
            let arena = ground.join(1);
            prepare(&arena, &references);
            stop_for_tracing();
            act(&arena, &references);
        });
        assert_eq!(child.wait(), News::Stopped, "could not be traced");
        // First once to the end, to see how many instructions there are.
        let after = if steps_in_all == 0 { usize::MAX } else { death * every };
        let mut steps = 0;
        while steps < after {
            match child.step() {
                News::Stopped => steps += 1,
                ended => {
                    assert_eq!(ended, News::Exited(0), "after {steps} instructions");
                    break;
                }
            }
        }
        if steps_in_all == 0 {
            steps_in_all = steps;
            // To be killed after n of N instructions takes n of them, which makes N/2 for each death.
            let deaths = (2 * instructions_to_trace() / steps.max(1)).max(4);
            every = steps.div_ceil(deaths);
        } else {
            child.kill();
            // What the parent held all the time, it still holds; the last holder frees.
            drop((small, large));
            ground.parent.reclaim(1.into());
            ground.assert_all_free(&format!("killed after {steps} of {steps_in_all} instructions"));
            death += 1;
            if death * every > steps_in_all {
                return;
            }
        }
    }
}

#[test]
fn killed_while_it_allocates_and_frees_a_small_block() {
    let warm = |arena: &Arena, _: &[BlockRef]| drop(arena.allocate(400).expect("room"));
    kill_at_every_instruction(6, warm, warm);
}

#[test]
fn killed_while_it_takes_a_chunk() {
    kill_at_every_instruction(6, |_, _| (), |arena, _| drop(arena.allocate(500_000).expect("room")));
}

#[test]
fn killed_while_it_makes_and_frees_a_run() {
    let act = |arena: &Arena, _: &[BlockRef]| drop(arena.allocate(3 * MIB).expect("room"));
    kill_at_every_instruction(8, act, act);
}

#[test]
fn killed_while_it_opens_and_lets_go() {
    kill_at_every_instruction(
        6,
        |_, _| (),
        |arena, references| {
            let blocks: Vec<Block> = references.iter().map(|it| arena.open(*it).expect("held")).collect();
            drop(blocks);
        },
    );
}

#[test]
fn killed_while_it_hands_over() {
    kill_at_every_instruction(
        6,
        |arena, _| drop(arena.allocate(400).expect("room")),
        |arena, references| {
            let _ = arena.allocate(400).expect("room").hand_over(PARENT);
            let _ = arena.open(references[0]).expect("held").hand_over(PARENT);
        },
    );
}

#[test]
fn killed_while_it_gives_memory_back() {
    let prepare = |arena: &Arena, _: &[BlockRef]| drop(arena.allocate(2 * MIB).expect("room"));
    kill_at_every_instruction(6, prepare, |arena, _| {
        drop(arena.allocate(60_000).expect("room"));
        arena.trim(0);
    });
}
