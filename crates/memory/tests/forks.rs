//! A process that forks for as long as it lives: its memory, its participant slots and the speed with which it learns
//! of deaths stay what they were.
#![cfg(not(any(loom, miri)))]

#[path = "../../sync/tests/child/mod.rs"]
mod child;

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use child::{Child, News};
use manyhands_memory::mappings::HeapRecord;
use manyhands_memory::shared_heap::SharedHeap;
use manyhands_os::process::Identity;
use manyhands_sync::names::Kind;
use manyhands_sync::site::MOST_PARTICIPANTS;

/// Bytes of a record that takes chunks of its own.
const LARGE: usize = 4 << 20;

/// A child of one test has what the others have: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn heap() -> SharedHeap {
    SharedHeap::create(64 << 20).expect("64 MiB of address space")
}

fn record(heap: &SharedHeap, len: usize) -> HeapRecord {
    heap.record(Kind::Array, len).expect("room")
}

fn slots(heap: &SharedHeap) -> usize {
    heap.mapping().site().participants().count()
}

/// Whether a process has a participant slot of its own, by which its death is known at once.
fn has_slot(heap: &SharedHeap, pid: i32) -> bool {
    let them = Identity::of(pid).expect("not reaped yet");
    heap.mapping().site().participants().any(|(_, slot)| slot.identity == them && !slot.reserved)
}

/// So many children that live until they are dropped.
fn living(count: usize) -> Vec<Child> {
    let (mut ready, tell) = io::pipe().expect("a pipe");
    let start = |_| {
        Child::run(|| {
            io::Write::write_all(&mut &tell, b"x").expect("heard");
            loop {
                std::thread::park();
            }
        })
    };
    let children = (0..count).map(start).collect();
    ready.read_exact(&mut vec![0; count]).expect("all have started");
    children
}

#[test]
fn children_that_end_at_once_leave_nothing() {
    let (_alone, heap) = (alone(), heap());
    let small: Vec<HeapRecord> = (0..50).map(|_| record(&heap, 64)).collect();
    let before = heap.arena().in_use();
    for round in 0..1200 {
        let large = record(&heap, LARGE);
        assert_eq!(Child::run(|| {}).wait(), News::Exited(0));
        drop(large);
        assert_eq!(heap.arena().in_use(), before, "after {round} forks");
        assert!(slots(&heap) < 40, "{} slots after {round} forks", slots(&heap));
    }
    assert!(has_slot(&heap, living(1)[0].pid()));
    drop(small);
}

#[test]
fn a_parent_that_only_forks_keeps_few_slots() {
    let (_alone, heap) = (alone(), heap());
    let kept = record(&heap, 64);
    for _ in 0..200 {
        Child::run(|| {}).wait();
        assert!(slots(&heap) < 40, "{}", slots(&heap));
    }
    drop(kept);
}

#[test]
fn children_beyond_the_slots_leave_nothing_either() {
    let (_alone, heap) = (alone(), heap());
    let small = record(&heap, 64);
    let before = heap.arena().in_use();
    for round in 0..2 {
        let large = record(&heap, LARGE);
        let children = living(MOST_PARTICIPANTS + 20);
        assert_eq!(slots(&heap), MOST_PARTICIPANTS - 2);
        assert!(!has_slot(&heap, children[MOST_PARTICIPANTS].pid()), "a latecomer");
        drop(large);
        assert!(heap.arena().in_use() > before, "they have it");
        drop(children);
        // To allocate so much is reason to look who is dead.
        drop(record(&heap, LARGE));
        assert_eq!(heap.arena().in_use(), before, "round {round}");
        assert_eq!(slots(&heap), 1);
    }
    drop(small);
}

#[test]
fn one_latecomer_that_lives_keeps_what_it_has() {
    let (_alone, heap) = (alone(), heap());
    let kept = record(&heap, LARGE);
    let small = record(&heap, 64);
    let before = heap.arena().in_use();
    let most = living(MOST_PARTICIPANTS);
    let late = living(1);
    assert!(!has_slot(&heap, late[0].pid()));
    drop(kept);
    drop(most);
    drop(record(&heap, LARGE));
    assert_eq!(heap.arena().in_use(), before, "it holds all, and nobody else does");
    drop(late);
    drop(record(&heap, LARGE));
    assert!(heap.arena().in_use() < before);
    drop(small);
}

/// The parent neither forks nor allocates; its child does nothing but fork.
#[test]
fn grandchildren_have_slots_however_many_there_were() {
    let (_alone, heap) = (alone(), heap());
    let large = record(&heap, LARGE);
    let child = Child::run(|| {
        for _ in 0..MOST_PARTICIPANTS + 100 {
            let site = heap.mapping().site();
            let grandchild = Child::run(|| assert!(site.participant().is_some()));
            assert_eq!(grandchild.wait(), News::Exited(0));
        }
    });
    assert_eq!(child.wait(), News::Exited(0));
    drop(large);
    assert_eq!(heap.arena().in_use(), 0);
    assert_eq!(slots(&heap), 1);
}

/// Sweeps and forks in several threads at once: what a living child has stays, what nobody has goes.
#[test]
fn forks_while_other_threads_allocate_and_sweep() {
    let (_alone, heap) = (alone(), heap());
    let kept = record(&heap, 64);
    let before = heap.arena().in_use();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(record(&heap, 1 << 20));
                    heap.sweep();
                }
            });
        }
        for _ in 0..200 {
            let mine = record(&heap, 1 << 20);
            let word = heap.segment().word64(mine.offset());
            word.store(7, Ordering::Relaxed);
            let child = living(1);
            drop(mine);
            // Somebody else's by now, if the child did not hold it.
            drop(record(&heap, 1 << 20));
            assert_eq!(word.load(Ordering::Relaxed), 7);
            drop(child);
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(record(&heap, LARGE));
    assert_eq!(heap.arena().in_use(), before);
    drop(kept);
}
