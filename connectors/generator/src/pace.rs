//! [`Pace`]: when the next event is due. The only place that knows time.

use std::time::{Duration, Instant};

/// The shortest sleep: below it batches would hold single rows.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// A clock that starts with the reader, and a rate in events a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    started: Instant,
    rate: Option<f64>,
}

impl Pace {
    pub(crate) fn start(rate: Option<f64>) -> Self {
        Self { started: Instant::now(), rate }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Events due by now, if `base` events had been read at the start.
    pub(crate) fn due(&self, base: u64) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(rate) => base.saturating_add((self.started.elapsed().as_secs_f64() * rate) as u64),
        }
    }

    /// When, since the start, `total` events are due.
    pub(crate) fn due_at(&self, base: u64, total: u64) -> Duration {
        match self.rate {
            None => Duration::ZERO,
            Some(rate) => {
                let seconds = total.saturating_sub(base) as f64 / rate;
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        }
    }

    /// Sleeps until a moment since the start.
    pub(crate) fn sleep_until(&self, moment: Duration) {
        std::thread::sleep(moment.saturating_sub(self.elapsed()).max(SLEEP_MIN));
    }
}
