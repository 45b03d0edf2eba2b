//! The state of an object at this moment, in a few words, and its holders.

use std::collections::BTreeMap;
use std::sync::Arc;

use manyhands_os::process::Identity;
use manyhands_sync::barrier::Rounds;
use manyhands_sync::event::Flag;
use manyhands_sync::lock::{Lock, RLock};
use manyhands_sync::names::Kind;
use manyhands_sync::semaphore::Permits;
use manyhands_sync::site::{SITE_BYTES, Site};
use manyhands_sync::words::SegmentWords;

use super::figure::bytes;

/// More words than any object has.
const MOST_WORDS: usize = (1 << 16) + 64;

/// Somebody who has an object or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) identity: Identity,
    /// As the object says it; 0 where it says nothing.
    pub(super) thread: Option<u32>,
    pub(super) count: u64,
}

/// The state of an object, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) text: String,
    pub(super) holders: Vec<Held>,
}

impl State {
    /// The state of the object of this kind whose record is at byte `record` of the site's segment. What cannot be one
    /// is said to be damaged.
    pub(super) fn of(site: &Arc<Site>, kind: Kind, record: u64, waiters: usize) -> Self {
        let Some(words) = words(site, record) else { return Self::damaged() };
        let found = match kind {
            Kind::Lock | Kind::RLock => Self::of_lock(site, kind, record),
            Kind::Semaphore | Kind::BoundedSemaphore => {
                Permits::open(words).map(|permits| Self::of_permits(&permits))
            }
            Kind::Event => {
                Flag::new(words).map(|flag| Self::said(if flag.is_set() { "set" } else { "not set" }))
            }
            Kind::Barrier => Rounds::open(words).map(|rounds| match rounds.is_broken() {
                true => Self::said("broken"),
                false => Self::said(&format!("{} of {} arrived", rounds.waiting(), rounds.parties())),
            }),
            Kind::Condition => Some(Self::said(if waiters == 0 { "no waiters" } else { "has waiters" })),
            // The holders of its ends are known only to themselves.
            Kind::Pipe => Some(Self::said("")),
            _ => Some(Self::said(&bytes((site.segment().len() - SITE_BYTES) as u64))),
        };
        found.unwrap_or_else(Self::damaged)
    }

    fn said(text: &str) -> Self {
        Self { text: text.to_owned(), holders: Vec::new() }
    }

    fn damaged() -> Self {
        Self::said("damaged")
    }

    fn of_lock(site: &Arc<Site>, kind: Kind, record: u64) -> Option<Self> {
        let lock = Lock::at(Arc::clone(site), usize::try_from(record).ok()?).ok()?;
        let count = match kind {
            Kind::RLock => RLock::at(Arc::clone(site), usize::try_from(record).ok()?).ok()?.count(),
            _ => 1,
        };
        let holder = lock.owner().map(|(identity, thread)| Held {
            identity,
            thread: Some(thread),
            // Between its two words a lock that is held may say that it is not.
            count: count.max(1),
        });
        let text = match (holder.is_some(), lock.word().is_damaged()) {
            (true, false) => "held",
            (true, true) => "not recovered",
            (false, true) => "poisoned",
            (false, false) => "free",
        };
        Some(Self { text: text.to_owned(), holders: holder.into_iter().collect() })
    }

    fn of_permits(permits: &Permits<SegmentWords>) -> Self {
        let mut holders: BTreeMap<Identity, u64> = BTreeMap::new();
        for identity in permits.holders().filter_map(Identity::from_bits) {
            *holders.entry(identity).or_default() += 1;
        }
        let holders = holders.into_iter().map(|(identity, count)| Held { identity, thread: None, count });
        let text = format!("{} of {} free", permits.value(), permits.initial());
        Self { text, holders: holders.collect() }
    }
}

/// The words from byte `record` on: as many as there are, up to what the largest object has.
fn words(site: &Arc<Site>, record: u64) -> Option<SegmentWords> {
    let (record, len) = (usize::try_from(record).ok()?, site.segment().len());
    let count = len.checked_sub(record)? / 8;
    let is_record = record >= SITE_BYTES && record.is_multiple_of(64) && count > 0;
    is_record.then(|| SegmentWords::new(Arc::clone(site.segment()), record, count.min(MOST_WORDS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use manyhands_os::memory::Segment;
    use manyhands_os::process::{identity, thread_id};
    use manyhands_sync::words::Words;
    use std::sync::atomic::Ordering;

    const AT: u64 = SITE_BYTES as u64;

    fn site() -> Arc<Site> {
        let segment = Arc::new(Segment::create(c"test", SITE_BYTES + 4096).expect("a segment"));
        let site = Site::create(segment, 0, [0; 16]).expect("memory");
        site.publish();
        site
    }

    fn body(site: &Arc<Site>) -> SegmentWords {
        words(site, AT).expect("there is a body")
    }

    fn text(site: &Arc<Site>, kind: Kind) -> String {
        State::of(site, kind, AT, 0).text
    }

    #[test]
    fn locks_name_their_owner() {
        let site = site();
        assert_eq!(State::of(&site, Kind::Lock, AT, 0), State::said("free"));
        let lock = RLock::at(Arc::clone(&site), SITE_BYTES).expect("room");
        assert!(lock.try_acquire(identity(), thread_id()) && lock.try_acquire(identity(), thread_id()));
        let held = |count| Held { identity: identity(), thread: Some(thread_id()), count };
        let state = State::of(&site, Kind::RLock, AT, 0);
        assert_eq!((state.text.as_str(), state.holders), ("held", vec![held(2)]));
        assert_eq!(State::of(&site, Kind::Lock, AT, 0).holders, [held(1)]);
        // What a process leaves that died with it.
        body(&site).word(0).fetch_or(1 << 61, Ordering::Relaxed);
        assert_eq!(text(&site, Kind::Lock), "not recovered");
    }

    #[test]
    fn permits_are_counted_by_holder() {
        let site = site();
        let permits = Permits::create(body(&site), 3, true);
        assert!(permits.acquire(identity().to_bits()) && permits.acquire(identity().to_bits()));
        let state = State::of(&site, Kind::BoundedSemaphore, AT, 0);
        assert_eq!(state.text, "1 of 3 free");
        assert_eq!(state.holders, [Held { identity: identity(), thread: None, count: 2 }]);
    }

    #[test]
    fn the_others_say_what_they_are() {
        let flag = site();
        assert_eq!(text(&flag, Kind::Event), "not set");
        Flag::new(body(&flag)).expect("words").set();
        assert_eq!(text(&flag, Kind::Event), "set");
        let barrier = site();
        let _ = Rounds::create(body(&barrier), 4);
        assert_eq!(text(&barrier, Kind::Barrier), "0 of 4 arrived");
        assert_eq!(State::of(&flag, Kind::Condition, AT, 2).text, "has waiters");
        assert_eq!(text(&flag, Kind::Array), "4096 B");
    }

    #[test]
    fn what_cannot_be_is_damaged() {
        let site = site();
        for index in 0..8 {
            body(&site).word(index).store(u64::MAX, Ordering::Relaxed);
        }
        assert_eq!(text(&site, Kind::Barrier), "damaged");
        assert_eq!(text(&site, Kind::Semaphore), "damaged");
        for place in [0, 64, AT + 8, AT + 4096, u64::MAX, u64::MAX - 63] {
            assert_eq!(State::of(&site, Kind::Lock, place, 0).text, "damaged", "{place}");
        }
    }
}
