//! Which is better, to look or to sleep at once: both are tried, and what they cost is remembered. Time here is whatever
//! it is told.

use std::sync::atomic::{AtomicU32, Ordering};

use super::machine::Prices;

/// What a thread does before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Look,
    Sleep,
}

/// How a wait should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) way: Way,
    /// For how many nanoseconds to look; 0 when it is better to sleep at once.
    pub(super) limit: u32,
}

/// Waits are all the same from here on: it does not matter how they began.
const LONG: u32 = 500_000;

/// How many times as long as usual to look for one who is awake: what has not come by then does not come soon.
const PATIENCE: u32 = 4;

/// The least worth looking: a timer interrupt of the thread that will answer is no reason to sleep.
const LEAST: u32 = 20_000;

/// The other way is tried in so many waits in a row: others have to get used to it, too.
const BURST: u32 = 4;

/// Waits between trials of the other way: the least; the most, when it was worse each time; and when it was much worse.
const SOON: u32 = 16;
const LATE: u32 = 2048;
const SELDOM: u32 = 32_768;

/// How the waits of one kind went recently.
///
/// | word | meaning | who changes it |
/// |---|---|---|
/// | `look`, `sleep` | what a wait that began so cost in the mean | who has waited so |
/// | `lately` | the same of the way that is usual, over fewer waits | who has waited so |
/// | `usual` | how long those who looked had to look | who has looked, and found |
/// | `turn` | waits until the next trial; above `TRYING_SLEEP` or `TRYING_LOOK`, how many of it are left | who begins a wait |
/// | `pause` | waits between trials | who begins one, or is surprised |
///
/// All are guesses: of writers that are in each other's way one is not heard, nothing more.
#[derive(Debug)]
pub(super) struct Trial {
    look: AtomicU32,
    sleep: AtomicU32,
    lately: AtomicU32,
    usual: AtomicU32,
    turn: AtomicU32,
    pause: AtomicU32,
}

/// Not known yet.
const UNKNOWN: u32 = 0;

/// This and more: sleeping is on trial.
const TRYING_SLEEP: u32 = 1 << 30;
/// This and more: looking is.
const TRYING_LOOK: u32 = 1 << 31;

impl Trial {
    pub(super) const fn new() -> Self {
        Self {
            look: AtomicU32::new(UNKNOWN),
            sleep: AtomicU32::new(UNKNOWN),
            lately: AtomicU32::new(UNKNOWN),
            usual: AtomicU32::new(UNKNOWN),
            turn: AtomicU32::new(BURST),
            pause: AtomicU32::new(SOON),
        }
    }

    /// The way that costs less, as far as is known. When waits are short and there is not much in it, looking: that is
    /// what lets the other one be quicker.
    fn better(&self) -> Way {
        let (look, sleep) = (get(&self.look), get(&self.sleep));
        let margin = if look < LONG / 4 { look / 8 } else { 0 };
        if sleep != UNKNOWN && sleep < look - margin { Way::Sleep } else { Way::Look }
    }

    /// Whether the other way is much worse.
    fn is_clear(&self) -> bool {
        let (look, sleep) = (get(&self.look), get(&self.sleep));
        look.max(sleep) / 4 > look.min(sleep)
    }

    /// How the next wait should begin.
    pub(super) fn plan(&self, prices: Prices) -> Plan {
        let better = self.better();
        let turn = match get(&self.turn) {
            0 if better == Way::Look => TRYING_SLEEP + BURST,
            0 => TRYING_LOOK + BURST,
            turn => turn,
        };
        match turn {
            TRYING_SLEEP | TRYING_LOOK => {
                // The trial is over: the next one is later, until something changes.
                let pause = get(&self.pause);
                let pause = if self.is_clear() { (pause * 8).min(SELDOM) } else { (pause * 2).min(LATE) };
                set(&self.pause, pause);
                set(&self.turn, pause);
            }
            _ => set(&self.turn, turn - 1),
        }
        let way = match turn {
            turn if turn > TRYING_LOOK => Way::Look,
            turn if turn > TRYING_SLEEP && turn < TRYING_LOOK => Way::Sleep,
            _ => better,
        };
        let limit = match (way, get(&self.usual)) {
            (Way::Sleep, _) => 0,
            // Nothing is known, or it is a trial.
            (Way::Look, usual) if usual == UNKNOWN || better == Way::Sleep => prices.sleep(),
            (Way::Look, usual) => (usual * PATIENCE).max(LEAST).min(prices.sleep()),
        };
        Plan { way, limit }
    }

    /// Learns that a wait took `waited`, `looked` of it looking, and whether what was waited for came in that time.
    pub(super) fn learn(&self, way: Way, waited: u64, looked: u64, found: bool, prices: Prices) {
        let (waited, looked) = (waited.min(LONG.into()) as u32, looked.min(LONG.into()) as u32);
        if found {
            blend(&self.usual, waited.max(1), 8);
        }
        let usual = self.better() == way;
        let cost = waited + prices.looking(looked).min(LONG);
        let word = if way == Way::Look { &self.look } else { &self.sleep };
        blend(word, cost, if usual { 32 } else { 4 });
        if way == Way::Look && waited >= LONG {
            // So long a wait would have been as long without looking.
            blend(&self.sleep, LONG, 4);
        }
        if usual {
            blend(&self.lately, cost, 4);
            let (lately, before) = (get(&self.lately), get(word));
            if (lately < before / 2 || lately / 2 > before) && get(&self.pause) > SOON {
                // Times have changed.
                set(word, lately);
                set(&self.pause, SOON);
                set(&self.turn, 0);
            }
        }
    }
}

fn get(word: &AtomicU32) -> u32 {
    word.load(Ordering::Relaxed)
}

fn set(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Relaxed);
}

/// Moves a mean towards `value`, which is one of some `of`.
fn blend(word: &AtomicU32, value: u32, of: u32) {
    let mean = get(word);
    let moved = match mean {
        UNKNOWN => value,
        less if less < value => less + (value - less).div_ceil(of),
        more => more - (more - value).div_ceil(of),
    };
    set(word, moved);
}
