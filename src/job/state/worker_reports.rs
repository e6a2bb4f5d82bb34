//! [`WorkerReports`]: when each worker has reported last.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A worker reports twice per second; one that is silent for so long is stopped, cut off, or in one
/// very long step.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// When each worker has reported last.
///
/// An epoch ends when all workers have reported it. So a process that is stopped and not dead holds
/// up every INSERT and FLUSH, and nothing else tells of it.
#[derive(Debug, Default)]
pub(in crate::job) struct WorkerReports {
    workers: Mutex<Vec<LastReport>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct LastReport {
    at: Duration,
    /// Its silence is in the log.
    is_noted: bool,
}

impl WorkerReports {
    fn lock(&self) -> MutexGuard<'_, Vec<LastReport>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers have reported at `now`.
    pub(in crate::job) fn begin(&self, workers: usize, now: Duration) {
        *self.lock() = vec![LastReport { at: now, is_noted: false }; workers];
    }

    /// A worker has reported.
    pub(in crate::job) fn note(&self, worker: usize, now: Duration) {
        if let Some(last) = self.lock().get_mut(worker) {
            *last = LastReport { at: now, is_noted: false };
        }
    }

    /// Workers that have fallen silent since the last call, with the time since their last report.
    pub(in crate::job) fn take_silent(&self, now: Duration) -> Vec<(usize, Duration)> {
        let mut silent = Vec::new();
        for (worker, last) in self.lock().iter_mut().enumerate() {
            let silence = now.saturating_sub(last.at);
            if silence >= SILENCE_MAX && !std::mem::replace(&mut last.is_noted, true) {
                silent.push((worker, silence));
            }
        }
        silent
    }

    /// The time since the last report of each worker.
    pub(in crate::job) fn silences(&self, now: Duration) -> Vec<Duration> {
        self.lock().iter().map(|last| now.saturating_sub(last.at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_until_the_worker_reports_again() {
        let at = Duration::from_secs;
        let reports = WorkerReports::default();
        reports.begin(2, at(1));
        reports.note(0, at(9));
        assert_eq!(reports.silences(at(11)), [at(2), at(10)]);
        assert_eq!(reports.take_silent(at(11)), [(1, at(10))]);
        assert_eq!(reports.take_silent(at(12)), []);
        reports.note(1, at(13));
        assert_eq!(reports.take_silent(at(24)), [(0, at(15)), (1, at(11))]);
        // One that is not there.
        reports.note(7, at(25));
    }
}
