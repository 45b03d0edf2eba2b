//! Waiting for the flag.

use std::sync::Arc;

use super::{Flag, Turn};
use crate::site::{Site, WaitKind};
use crate::site_error::SiteError;
use crate::waiting::{Stopped, Wait, Waiting};
use crate::words::SegmentWords;
use crate::{EventCount, Patience, SpinPolicy};

static SPIN: SpinPolicy = SpinPolicy::new();

/// An event in a segment, between threads and processes.
///
/// Setting it is one instruction and, if somebody waits, a wake-up: allowed in a signal handler that has interrupted
/// another operation on the same event. Every waiter learns that it was set, even if it is cleared at once. Nobody
/// has to answer, so a waiter that has died holds up nobody.
///
/// ```
/// use std::sync::Arc;
///
/// use manyhands_os::memory::Segment;
/// use manyhands_sync::Patience;
/// use manyhands_sync::event::Event;
/// use manyhands_sync::site::{SITE_BYTES, Site};
/// use manyhands_sync::waiting::{Patient, Stopped};
/// use manyhands_sync::words::SegmentWords;
///
/// let segment = Arc::new(Segment::create(c"example", SITE_BYTES + 4096)?);
/// let site = Site::create(Arc::clone(&segment), 1, [0; 16])?;
/// segment.commit(SITE_BYTES..SITE_BYTES + 4096)?;
/// let event = Event::open(Arc::clone(&site), SegmentWords::new(segment, SITE_BYTES, Event::WORDS))?;
/// site.publish();
///
/// let stopped = event.wait(Patience::of_seconds(0.001), &mut Patient);
/// assert!(matches!(stopped, Err(Stopped::TimedOut)));
/// std::thread::scope(|scope| {
///     scope.spawn(|| event.set());
///     event.wait(Patience::Forever, &mut Patient)
/// })
/// .expect("set");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Event {
    site: Arc<Site>,
    spin: &'static SpinPolicy,
    flag: Flag<SegmentWords>,
    key: u64,
}

impl Event {
    /// How many words an event takes. All zero they are an event that is not set.
    pub const WORDS: usize = Flag::<SegmentWords>::WORDS;

    /// The event of these words.
    ///
    /// # Errors
    /// When there are too few words.
    pub fn open(site: Arc<Site>, words: SegmentWords) -> Result<Self, SiteError> {
        let key = words.offset_of(0) as u64;
        let flag = Flag::new(words).ok_or(SiteError::Corrupt("an event without room"))?;
        Ok(Self { site, spin: &SPIN, flag, key })
    }

    /// Has threads of this process spin as long as `spin` finds it worthwhile before they sleep, instead of by what all
    /// events of this process have learned.
    #[must_use]
    pub fn with_spin(self, spin: &'static SpinPolicy) -> Self {
        Self { spin, ..self }
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag.is_set()
    }

    /// Sets it and wakes all who wait.
    pub fn set(&self) {
        self.flag.set();
        if self.flag.is_awaited() {
            self.site.notify(self.events(), self.key, u32::MAX);
        }
    }

    /// Takes it back.
    pub fn clear(&self) {
        self.flag.clear();
    }

    /// Waits until it is set, as long as `patience` lasts.
    ///
    /// # Errors
    /// [`Stopped`] when it was not set all the time, or `waiting` said to stop.
    pub fn wait(&self, patience: Patience, waiting: &mut dyn Waiting) -> Result<(), Stopped> {
        let turn = self.turn();
        let wait = Wait {
            events: self.events(),
            key: self.key,
            kind: WaitKind::Event,
            patience,
            spin: self.spin,
            listed: None,
        };
        self.site.block(wait, waiting, |_| (), |_| self.was_set_since(turn).then_some(()))
    }

    /// From now on the caller waits: for those that wait with a wake socket ([`Site::enlist_async`]).
    #[must_use]
    pub fn turn(&self) -> Turn {
        self.flag.turn()
    }

    /// Whether it is set or has been since `turn`: what such a waiter looks at.
    #[must_use]
    pub fn was_set_since(&self, turn: Turn) -> bool {
        self.flag.was_set_since(turn)
    }

    /// Where waiters sleep.
    #[must_use]
    pub fn events(&self) -> EventCount<'_> {
        self.flag.events()
    }

    /// What waiters wait for.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}
