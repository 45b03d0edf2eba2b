//! Waiting for permits.

use std::collections::BTreeMap;
use std::sync::Arc;

use manyhands_os::process::{Identity, identity};

use super::{Permits, ReleasedTooOften};
use crate::site::{Site, WaitKind};
use crate::site_error::SiteError;
use crate::waiting::{Look, Owners, Stopped, Wait, Waiting};
use crate::watchlist::Watchlist;
use crate::words::SegmentWords;
use crate::{EventCount, Patience, SpinPolicy};

static SPIN: SpinPolicy = SpinPolicy::new();

/// A counting semaphore in a segment, between threads and processes.
///
/// Up to the initial value (and 65,536), permits belong to the process that acquired them, and come back when it dies.
/// Anybody may release: a process that has none of its own releases another's. What is released beyond
/// the initial value is a number, as with any semaphore, and gone with whoever acquired it.
///
/// Acquiring is one compare-and-swap, releasing another, when nobody waits.
///
/// ```
/// use std::sync::Arc;
///
/// use manyhands_os::memory::Segment;
/// use manyhands_sync::Patience;
/// use manyhands_sync::semaphore::Semaphore;
/// use manyhands_sync::site::{SITE_BYTES, Site};
/// use manyhands_sync::waiting::Patient;
/// use manyhands_sync::words::SegmentWords;
///
/// let segment = Arc::new(Segment::create(c"example", SITE_BYTES + 4096)?);
/// let site = Site::create(Arc::clone(&segment), 1, [0; 16])?;
/// segment.commit(SITE_BYTES..SITE_BYTES + 4096)?;
/// let words = SegmentWords::new(segment, SITE_BYTES, Semaphore::words_for(2));
/// site.publish();
/// site.enter(); // so that others learn of our death at once
///
/// let semaphore = Semaphore::create(site, words, 2, true);
/// semaphore.acquire(Patience::Forever, &mut Patient).expect("two are free");
/// assert!(semaphore.try_acquire());
/// assert!(!semaphore.try_acquire());
/// semaphore.release(2)?;
/// assert!(semaphore.release(1).is_err(), "bounded");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Semaphore {
    site: Arc<Site>,
    spin: &'static SpinPolicy,
    permits: Permits<SegmentWords>,
    key: u64,
    watchlist: Watchlist,
}

impl Semaphore {
    /// The largest initial value.
    pub const MOST: u64 = Permits::<SegmentWords>::MOST;

    /// How many words a semaphore of this initial value takes.
    #[must_use]
    pub fn words_for(initial: u64) -> usize {
        Permits::<SegmentWords>::words_for(initial)
    }

    /// Makes a semaphore of words that are zero and that nobody else knows yet. If it is `bounded`, releasing beyond
    /// the initial value is an error.
    ///
    /// # Panics
    /// When there are too few words, or `initial` is above [`MOST`](Self::MOST).
    #[must_use]
    pub fn create(site: Arc<Site>, words: SegmentWords, initial: u64, bounded: bool) -> Self {
        let key = words.offset_of(0) as u64;
        Self {
            site,
            spin: &SPIN,
            key,
            permits: Permits::create(words, initial, bounded),
            watchlist: Watchlist::default(),
        }
    }

    /// The semaphore that somebody has made of these words.
    ///
    /// # Errors
    /// When what is in the words is none.
    pub fn open(site: Arc<Site>, words: SegmentWords) -> Result<Self, SiteError> {
        let key = words.offset_of(0) as u64;
        let permits =
            Permits::open(words).ok_or(SiteError::Corrupt("a semaphore with an impossible value"))?;
        Ok(Self { site, spin: &SPIN, key, permits, watchlist: Watchlist::default() })
    }

    /// Has threads of this process spin as long as `spin` finds it worthwhile before they sleep, instead of by what all
    /// semaphores of this process have learned.
    #[must_use]
    pub fn with_spin(self, spin: &'static SpinPolicy) -> Self {
        Self { spin, ..self }
    }

    /// Takes a permit if one is at hand; may miss one that is being given back or was a dead process's.
    #[inline]
    #[must_use]
    pub fn acquire_quickly(&self) -> bool {
        self.permits.acquire(identity().to_bits())
    }

    /// Takes a permit if there is one, without waiting. Looks for permits of dead processes before it says no.
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        let me = identity().to_bits();
        self.permits.acquire_surely(me) || (self.recover() > 0 && self.permits.acquire_surely(me))
    }

    /// Takes a permit; waits for one as long as `patience` lasts.
    ///
    /// # Errors
    /// [`Stopped`] when there was none in time, or `waiting` said to stop. No permit is taken then.
    pub fn acquire(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), Stopped> {
        let me = identity().to_bits();
        if self.permits.acquire(me) {
            return Ok(());
        }
        self.acquire_slowly(me, patience, waiting)
    }

    #[cold]
    fn acquire_slowly(&self, me: u64, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), Stopped> {
        let events = self.events();
        let wait = Wait {
            events,
            key: self.key,
            kind: WaitKind::Semaphore,
            patience,
            spin: self.spin,
            listed: None,
        };
        let attempt = |look: Look| {
            if let Some(dead) = look.dead {
                self.free(|who| who == dead.to_bits());
            }
            self.permits.acquire(me).then_some(())
        };
        let taken = self.site.block(wait, waiting, |owners| self.watch(owners), attempt);
        // A wake-up meant for one permit may have come to us together with the end of the wait.
        if taken.is_err() && self.permits.value() > 0 {
            self.notify(1);
        }
        taken
    }

    fn watch(&self, owners: &mut Owners) {
        if !self.watchlist.name(self.permits.holders(), owners) {
            // Its notification keeps us from going to sleep now.
            self.free(|who| Identity::from_bits(who).is_none());
        }
    }

    /// Gives back `count` permits: this process's first, then any that are taken, then, unless bounded, new ones.
    ///
    /// # Errors
    /// When that would be more than a bounded semaphore began with (nothing is given back then, unless others release
    /// at the same moment), or more than [`MOST`](Self::MOST).
    pub fn release(&self, count: u64) -> Result<(), ReleasedTooOften> {
        let released = self.permits.release(identity().to_bits(), count);
        if self.permits.are_awaited() {
            self.notify(count);
        }
        released
    }

    /// Takes permits from the dead; returns how many. Waiters do this by themselves.
    pub fn recover(&self) -> u32 {
        self.free(|who| Identity::from_bits(who).is_none_or(|who| self.site.is_dead(who)))
    }

    fn free(&self, is_dead: impl FnMut(u64) -> bool) -> u32 {
        let freed = self.permits.free_the_dead(is_dead);
        if freed > 0 && self.permits.are_awaited() {
            self.notify(freed.into());
        }
        freed
    }

    fn notify(&self, count: u64) {
        self.site.notify(self.events(), self.key, u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// How many permits are free; those of the dead count as taken until somebody has noticed.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.permits.value()
    }

    /// The value it began with.
    #[must_use]
    pub fn initial(&self) -> u64 {
        self.permits.initial()
    }

    /// Whether releasing beyond the initial value is an error.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.permits.is_bounded()
    }

    /// Which processes have how many permits.
    #[must_use]
    pub fn holders(&self) -> BTreeMap<Identity, u64> {
        let mut holders = BTreeMap::new();
        for holder in self.permits.holders().filter_map(Identity::from_bits) {
            *holders.entry(holder).or_default() += 1;
        }
        holders
    }

    /// Where waiters sleep, for those that wait with a wake socket ([`Site::enlist_async`]); they look by
    /// [`try_acquire`](Self::try_acquire).
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        self.permits.events()
    }

    /// What waiters wait for.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (value, initial) = (self.value(), self.initial());
        f.debug_struct("Semaphore").field("value", &value).field("initial", &initial).finish()
    }
}
