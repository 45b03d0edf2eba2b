//! The sites that this process has mapped: where a search for a deadlock may look.
//!
//! No lock guards them, so that a fork in the middle of a change leaves the child nothing locked: a slot that another
//! thread was just reading stays out of the child's reach, and that is all.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use super::Site;

/// More sites than this are mapped by hardly any process; those beyond are not searched.
const SLOTS: usize = 2048;

/// One slot.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | busy | 1 while somebody looks at or changes `site` | who looks: 0→1, and back to 0 |
/// | site | from `Weak::into_raw`, or null | who has made it busy |
struct Slot {
    busy: AtomicU32,
    site: AtomicPtr<Site>,
}

static SITES: [Slot; SLOTS] =
    [const { Slot { busy: AtomicU32::new(0), site: AtomicPtr::new(ptr::null_mut()) } }; SLOTS];

/// How many slots may be in use.
static HIGH: AtomicU32 = AtomicU32::new(0);

impl Slot {
    /// Calls `act` with what is there, and keeps what it returns; does nothing when another thread is at it.
    fn change<T>(&self, act: impl FnOnce(Option<Weak<Site>>) -> (Option<Weak<Site>>, T)) -> Option<T> {
        // Acquire: what the last one did. pairs with: the store of 0 below.
        if self.busy.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return None;
        }
        let site = self.site.load(Ordering::Relaxed);
        // SAFETY: it came from `into_raw` and is taken out once: only the thread that has made the slot busy gets here.
        let there = (!site.is_null()).then(|| unsafe { Weak::from_raw(site) });
        let (kept, value) = act(there);
        let site = kept.map_or(ptr::null_mut(), |site| site.into_raw().cast_mut());
        self.site.store(site, Ordering::Relaxed);
        // Release: the slot is as we left it. pairs with: the exchange above.
        self.busy.store(0, Ordering::Release);
        Some(value)
    }
}

/// Remembers a site for as long as it lives.
pub(super) fn remember(site: &Arc<Site>) {
    for (index, slot) in (0..).zip(&SITES) {
        let taken = slot.change(|there| match there {
            Some(other) if other.strong_count() > 0 => (Some(other), false),
            _ => (Some(Arc::downgrade(site)), true),
        });
        if taken == Some(true) {
            HIGH.fetch_max(index + 1, Ordering::Relaxed);
            return;
        }
    }
}

/// The sites of this process, each held only until the next is looked at.
fn each() -> impl Iterator<Item = Arc<Site>> {
    let high = HIGH.load(Ordering::Relaxed) as usize;
    let look = |slot: &Slot| {
        slot.change(|there| {
            let site = there.as_ref().and_then(Weak::upgrade);
            (there, site)
        })
        .flatten()
    };
    SITES[..high.min(SLOTS)].iter().filter_map(look)
}

/// The sites of this process.
pub(crate) fn sites() -> Vec<Arc<Site>> {
    each().collect()
}

/// One of them that is `wanted`. One that another thread is just looking at may be passed over.
pub(crate) fn find(wanted: impl Fn(&Site) -> bool) -> Option<Arc<Site>> {
    each().find(|site| wanted(site))
}
