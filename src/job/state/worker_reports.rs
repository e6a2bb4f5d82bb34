//! [`WorkerReports`]: when each worker has reported last; [`WorkerSilence`]: how long that is ago.

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

/// How long ago a worker has reported last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerSilence {
    /// Index of the worker.
    pub worker: usize,
    /// Index of its process.
    pub process: usize,
    /// The time since its last report.
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
struct LastReport {
    process: usize,
    at: Duration,
    /// Its silence is in the log.
    is_noted: bool,
}

impl WorkerReports {
    fn lock(&self) -> MutexGuard<'_, Vec<LastReport>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All workers, of which each process has as many, have reported at `now`.
    pub(in crate::job) fn begin(&self, workers: usize, processes: usize, now: Duration) {
        let threads = (workers / processes.max(1)).max(1);
        let report = |worker| LastReport { process: worker / threads, at: now, is_noted: false };
        *self.lock() = (0..workers).map(report).collect();
    }

    /// A worker has reported.
    pub(in crate::job) fn note(&self, worker: usize, now: Duration) {
        if let Some(last) = self.lock().get_mut(worker) {
            (last.at, last.is_noted) = (now, false);
        }
    }

    /// Workers that have fallen silent since the last call.
    pub(in crate::job) fn take_silent(&self, now: Duration) -> Vec<WorkerSilence> {
        let mut silent = Vec::new();
        for (worker, last) in self.lock().iter_mut().enumerate() {
            let silence = last.silence(worker, now);
            if silence.duration >= SILENCE_MAX && !std::mem::replace(&mut last.is_noted, true) {
                silent.push(silence);
            }
        }
        silent
    }

    /// All workers.
    pub(in crate::job) fn silences(&self, now: Duration) -> Vec<WorkerSilence> {
        let workers = self.lock();
        workers.iter().enumerate().map(|(worker, last)| last.silence(worker, now)).collect()
    }
}

impl LastReport {
    fn silence(&self, worker: usize, now: Duration) -> WorkerSilence {
        let duration = now.saturating_sub(self.at);
        WorkerSilence { worker, process: self.process, duration }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_once_until_the_worker_reports_again() {
        let at = Duration::from_secs;
        let of =
            |worker, seconds| WorkerSilence { worker, process: worker / 2, duration: at(seconds) };
        let reports = WorkerReports::default();
        reports.begin(4, 2, at(1));
        for worker in [0, 1, 2] {
            reports.note(worker, at(9));
        }
        assert_eq!(reports.silences(at(11)), [of(0, 2), of(1, 2), of(2, 2), of(3, 10)]);
        assert_eq!(reports.take_silent(at(11)), [of(3, 10)]);
        assert_eq!(reports.take_silent(at(12)), []);
        for worker in [1, 2, 3] {
            reports.note(worker, at(16));
        }
        assert_eq!(reports.take_silent(at(24)), [of(0, 15)]);
        assert_eq!(reports.take_silent(at(27)), [of(1, 11), of(2, 11), of(3, 11)]);
        // One that is not there.
        reports.note(7, at(25));
    }
}
