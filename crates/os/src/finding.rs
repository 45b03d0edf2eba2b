//! What is found out once for the whole process.

use std::sync::atomic::{AtomicU8, Ordering};

/// A yes or no that is looked for when it is first asked for.
///
/// Not a `OnceLock`: a fork while another thread fills that would leave a child that waits forever. Whoever finds it
/// unknown looks, perhaps several at once, and all find the same.
///
/// | value | meaning |
/// |---|---|
/// | 0 | nobody has looked yet, or what was found is forgotten |
/// | 1 | no |
/// | 2 | yes |
///
/// ```
/// use manyhands_os::finding::Finding;
///
/// static EVEN: Finding = Finding::new();
/// assert!(EVEN.get(|| 4 % 2 == 0));
/// assert!(EVEN.get(|| unreachable!("it is known")));
/// ```
#[derive(Debug, Default)]
pub struct Finding(AtomicU8);

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

impl Finding {
    /// Not known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU8::new(UNKNOWN))
    }

    /// The answer, which `look` finds if it is not known.
    pub fn get(&self, look: impl FnOnce() -> bool) -> bool {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => {
                let found = look();
                self.0.store(if found { YES } else { NO }, Ordering::Relaxed);
                found
            }
            known => known == YES,
        }
    }

    /// It has to be looked for again: a forked child may find something else.
    pub fn forget(&self) {
        self.0.store(UNKNOWN, Ordering::Relaxed);
    }
}
