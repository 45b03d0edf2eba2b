//! How long tasks run, and how many more of them are worth having here. Pure.
//!
//! A worker has as many messages as it can run: what it kept for later, another one could run now. But where tasks are tiny, a worker that asks
//! for the next one when it has told of the last waits for the broker most of the time.

/// Tasks that run for less than this, on average, are tiny; in nanoseconds.
const TINY: f64 = 10e6;
/// From here on they are not any more.
const LONG: f64 = 2.0 * TINY;
/// So much work is kept ready, in nanoseconds.
const AHEAD: f64 = 50e6;
/// So many messages at most.
const MOST: u16 = 128;
/// So many tiny tasks are begun for each that runs.
const DEEP: usize = 4;
/// The newest task's share in the average.
const NEWEST: f64 = 1.0 / 8.0;

/// What has been measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    mean: Option<f64>,
    is_tiny: bool,
}

impl Pace {
    /// A task has run for so many nanoseconds.
    #[expect(clippy::cast_precision_loss, reason = "an average of guesses")]
    pub fn ran(&mut self, nanoseconds: u64) {
        let ran = nanoseconds as f64;
        let mean = self.mean.map_or(ran, |mean| mean + (ran - mean) * NEWEST);
        self.is_tiny = mean < if self.is_tiny { LONG } else { TINY };
        self.mean = Some(mean);
    }

    /// How many tasks are begun at a time where so many run: tiny ones queue before their workers, who need not wait for the next.
    #[must_use]
    pub fn depth(&self, slots: usize) -> usize {
        if self.is_tiny { slots * DEEP } else { slots }
    }

    /// How many messages to have beyond those that run, with so many at a time.
    ///
    /// ```
    /// use manyhands_cluster::worker::Pace;
    ///
    /// let mut pace = Pace::default();
    /// assert_eq!(pace.lookahead(4), 0, "nothing is known yet");
    /// pace.ran(2_000_000);
    /// assert_eq!(pace.lookahead(4), 100, "tasks of 2 ms");
    /// (0..100).for_each(|_| pace.ran(1_000_000_000));
    /// assert_eq!(pace.lookahead(4), 0, "others can have them");
    /// ```
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn lookahead(&self, slots: usize) -> u16 {
        match self.mean {
            Some(mean) if self.is_tiny => {
                let within = AHEAD / mean.max(1.0) * slots as f64;
                within.clamp(1.0, f64::from(MOST)) as u16
            }
            _ => 0,
        }
    }
}
