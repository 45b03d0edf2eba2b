//! What tests of primitives stand on: a site with some room, time limits, and both ways of noticing deaths.
// Not every test needs all of it.
#![allow(dead_code)]

use std::sync::{Arc, Mutex, PoisonError};

use manyhands_os::clock::{self, SECOND};
use manyhands_os::memory::Segment;
use manyhands_os::park::forbid_wait_any;
use manyhands_sync::Patience;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::words::SegmentWords;

/// Bytes of the body.
const BODY: usize = 8192;

/// A site with a body of zeros, in which this process takes part.
pub(crate) fn site() -> Arc<Site> {
    let len = SITE_BYTES + BODY;
    let segment = Arc::new(Segment::create(c"test", len).expect("a segment"));
    segment.commit(SITE_BYTES..len).expect("memory");
    let site = Site::create(segment, 1, [0; 16]).expect("a site");
    site.enter().expect("a slot");
    site.publish();
    site
}

/// The first `count` words of the body.
pub(crate) fn words(site: &Site, count: usize) -> SegmentWords {
    SegmentWords::new(Arc::clone(site.segment()), SITE_BYTES, count)
}

/// What processes share: the tables of the site as far as tests use them, and the body.
pub(crate) fn memory(site: &Site) -> Vec<u8> {
    let counters = 64..96;
    let first_slots = 4096..4096 + 4 * 64;
    let first_waiters = 4096 + 512 * 64..4096 + 512 * 64 + 4 * 64;
    let body = SITE_BYTES..SITE_BYTES + 128;
    let mut bytes = Vec::new();
    for range in [counters, first_slots, first_waiters, body] {
        let first = bytes.len();
        bytes.resize(first + range.len(), 0);
        site.segment().copy_out(range.start, &mut bytes[first..]);
    }
    bytes
}

/// As long as what must not take long may take: a test that hangs must fail.
pub(crate) fn soon() -> Patience {
    Patience::Until(clock::now() + 60 * SECOND)
}

/// Yields until `condition` is true; fails when that takes too long.
pub(crate) fn await_that(what: &str, condition: impl Fn() -> bool) {
    let deadline = clock::now() + 60 * SECOND;
    while !condition() {
        assert!(clock::now() < deadline, "timed out: {what}");
        std::thread::yield_now();
    }
}

/// Calls `test` with futex_waitv and without. What it switches is the process's, so only one test at a time.
pub(crate) fn both_ways(test: impl Fn()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    for forbid in [false, true] {
        forbid_wait_any(forbid);
        test();
    }
    forbid_wait_any(false);
}

/// The rest of a child's life.
pub(crate) fn sleep_for_ever() -> ! {
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}
