//! How long an operation may wait.

use manyhands_os::clock::{self, Deadline};

/// How long an operation may wait for what others must do first.
///
/// Where somebody is in the middle of the same thing right now, which takes microseconds, but may be stopped there, an
/// operation waits for that in any case: for a second, or for about a millisecond when it is [`Glance`](Self::Glance).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all.
    Now,
    /// Not at all, and hardly for whoever is in the middle of something: the caller must not be kept, as an event loop
    /// must not. What could not be done for that could not be done: there was nothing, or no room.
    Glance,
    /// Until then.
    Until(Deadline),
    /// Forever.
    Forever,
}

impl Patience {
    /// For so many seconds, as [`clock::after`] takes them.
    ///
    /// ```
    /// use manyhands_sync::Patience;
    ///
    /// assert!(matches!(Patience::of_seconds(0.5), Patience::Until(_)));
    /// assert_eq!(Patience::of_seconds(f64::INFINITY), Patience::Forever);
    /// ```
    #[must_use]
    pub fn of_seconds(seconds: f64) -> Self {
        clock::after(seconds).map_or(Self::Forever, Self::Until)
    }

    /// Whether there is any.
    #[must_use]
    pub const fn waits(self) -> bool {
        matches!(self, Self::Until(_) | Self::Forever)
    }

    /// When it ends, for those who sleep: `None` is never, and who does not wait gets a moment that has passed.
    #[must_use]
    pub const fn deadline(self) -> Option<Deadline> {
        match self {
            Self::Now | Self::Glance => Some(0),
            Self::Until(deadline) => Some(deadline),
            Self::Forever => None,
        }
    }

    /// Whether it is at its end.
    #[must_use]
    pub fn is_over(self) -> bool {
        match self {
            Self::Now | Self::Glance => true,
            Self::Until(deadline) => deadline <= clock::now(),
            Self::Forever => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_in_the_future_waits() {
        for (patience, waits, is_over) in [
            (Patience::Now, false, true),
            (Patience::Glance, false, true),
            (Patience::Until(clock::now()), true, true),
            (Patience::Until(clock::now() + clock::SECOND * 3600), true, false),
            (Patience::Forever, true, false),
        ] {
            assert_eq!((patience.waits(), patience.is_over()), (waits, is_over), "{patience:?}");
            let passed = patience.deadline().is_some_and(|deadline| deadline <= clock::now());
            assert_eq!(passed, is_over, "{patience:?}");
        }
    }
}
