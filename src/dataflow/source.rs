//! Reads a source on a thread of its own and hands decoded batches to one worker.
//!
//! ```text
//! splits of this worker ─► SourceReader.poll ─► bounded channel ─► worker
//! ```
//!
//! New splits, and the ends that a flush asks for, are looked up on a thread of their own, so that
//! a slow answer of the outside does not stop the reading.
//!
//! Splits that appear later (partitions that were added to a topic) may go on with keys of the
//! splits before them. A reader holds them back and says so; the coordinator then has all readers
//! of the source answer a flush, closes the epoch, and has the new splits released. So a key that
//! moves to a new partition is not overwritten by its older events, whichever workers read the two.
//! What appears while splits are held back is found after their release.
//!
//! **Invariant:** a batch is handed over with the offsets that follow it; the worker counts it into
//! an epoch, and with it the offsets. The channel's bound is the backpressure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use frazil_connector_api::{
    ConnectorError, ConnectorErrorKind, Position, Positions, Retry, Source, SourceBatch,
    SourcePoll, SourceReader, SplitId,
};

pub use field_notices::FieldNotice;
pub(crate) use field_notices::FieldNotices;

use super::packet::decoded_bytes;
use crate::env::Env;
use crate::error::{Error, Result, caught};

mod field_notices;

const POLL_TIMEOUT: Duration = Duration::from_millis(50);
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after a look for splits that failed.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a reader tells its worker.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// Where splits begin that are read from now on.
    Assigned(Positions),
    /// New splits are held back until [`SourceHandle::release`].
    Held,
    /// Rows.
    Batch(SourceBatch),
    /// Splits that were read to their end and are gone: their offsets are not kept.
    Retired(Vec<SplitId>),
    /// All that the source had at flush number n has been handed over, but for what is held back.
    Flushed(u64),
    /// The bounded source has ended.
    Ended,
    /// The outside failed for the n-th time; it is tried again.
    Retrying(u32, String),
    /// It answers again.
    Recovered,
    /// It failed for good.
    Failed(Error),
}

impl SourceEvent {
    /// Memory of its rows.
    fn bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => decoded_bytes(&batch.data),
            _ => 0,
        }
    }
}

/// Which splits a reader takes, and how.
#[derive(Debug, Clone)]
pub(crate) struct ReaderConfig {
    /// Index of the worker.
    pub(crate) worker: usize,
    /// Number of workers that share the splits.
    pub(crate) peers: usize,
    /// Rows asked for at once.
    pub(crate) batch_rows: usize,
    /// Batches that may wait for the worker.
    pub(crate) channel_batches: usize,
    /// Some worker has read the source before: what is unknown now has come later.
    pub(crate) is_known: bool,
}

/// The worker's end of a reader. Dropping it stops the thread.
#[derive(Debug)]
pub(crate) struct SourceHandle {
    events: Receiver<SourceEvent>,
    /// It was told that nothing more comes.
    has_ended: bool,
    asked: Arc<Asked>,
}

/// What the worker asks of the thread.
#[derive(Debug, Default)]
struct Asked {
    /// Number of the last flush.
    flush: AtomicU64,
    /// Number of the last flush that all readers of the source have answered, its rows being of
    /// closed epochs.
    released: AtomicU64,
    stop: AtomicBool,
    /// Memory of the batches that the worker has not taken.
    queued_bytes: AtomicUsize,
}

impl SourceHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn spawn(
        source: Arc<dyn Source>,
        offsets: Positions,
        config: ReaderConfig,
        env: Env,
        worker: Thread,
    ) -> Result<Self> {
        let (sender, events) = sync_channel(config.channel_batches);
        let asked = Arc::new(Asked::default());
        let reader = Reader {
            source,
            assigned: true,
            offsets,
            env,
            worker,
            discovered: config.is_known,
            config,
            sender,
            asked: Arc::clone(&asked),
            flushed: 0,
            target: None,
            attempts: 0,
            told_empty: false,
            look: None,
            look_at: Duration::ZERO,
            failed_looks: 0,
            reported_look: false,
            problem: None,
            held: None,
        };
        std::thread::Builder::new().name("frazil-source".to_string()).spawn(move || {
            let (sender, worker) = (reader.sender.clone(), reader.worker.clone());
            let run = || {
                reader.run();
                Ok(())
            };
            if let Err(error) = caught("a source's reader", run) {
                let _ = sender.send(SourceEvent::Failed(error));
                worker.unpark();
            }
        })?;
        Ok(Self { events, has_ended: false, asked })
    }

    /// The next event, if there is one.
    pub(crate) fn try_next(&mut self) -> Option<SourceEvent> {
        match self.events.try_recv() {
            Ok(event) => {
                self.asked.queued_bytes.fetch_sub(event.bytes(), Ordering::Relaxed);
                self.has_ended |= matches!(event, SourceEvent::Failed(_));
                Some(event)
            }
            Err(TryRecvError::Disconnected) if !self.has_ended => {
                self.has_ended = true;
                Some(SourceEvent::Failed(Error::internal("the source's thread has ended")))
            }
            Err(_) => None,
        }
    }

    /// Memory of the batches that the worker has not taken.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.asked.queued_bytes.load(Ordering::Relaxed)
    }

    /// Asks the reader to tell when it has handed over all that the source holds now.
    pub(crate) fn flush(&self, number: u64) {
        self.asked.flush.store(number, Ordering::SeqCst);
    }

    /// Lets the reader go on with splits that were held back before it was asked for this flush.
    pub(crate) fn release(&self, number: u64) {
        self.asked.released.fetch_max(number, Ordering::SeqCst);
    }
}

/// The worker's end is gone: stop.
struct Stop;

struct Reader {
    source: Arc<dyn Source>,
    offsets: Positions,
    config: ReaderConfig,
    env: Env,
    worker: Thread,
    sender: SyncSender<SourceEvent>,
    asked: Arc<Asked>,
    flushed: u64,
    /// Where the flush under way ends.
    target: Option<(u64, Positions)>,
    attempts: u32,
    /// Looked for splits before.
    discovered: bool,
    /// True if the worker knows of all splits in `offsets`.
    assigned: bool,
    /// Told the worker that there is nothing to read here.
    told_empty: bool,
    /// The look for splits under way.
    look: Option<Receiver<frazil_connector_api::Result<Found>>>,
    /// When the next look is due.
    look_at: Duration,
    /// Looks that failed since the last one that did not.
    failed_looks: u32,
    /// Such a failure was reported, and that it is over was not.
    reported_look: bool,
    /// Splits that are not read, as it was reported.
    problem: Option<String>,
    /// New splits that are not read yet.
    held: Option<Held>,
}

/// Splits that are held back.
struct Held {
    splits: Positions,
    /// The last flush that was asked for before.
    since: u64,
}

/// What a look at the source has found.
struct Found {
    /// Splits that are this worker's and new, with the offsets to read from.
    fresh: Positions,
    /// True if these are what the source begins with.
    is_first: bool,
    /// The flush that asked for it, and where all splits end.
    flush: Option<(u64, Positions)>,
}

/// What a look at the source needs.
struct Look {
    source: Arc<dyn Source>,
    known: Positions,
    /// The source has never been read: its start mode tells where to begin.
    is_first: bool,
    worker: usize,
    peers: usize,
    flush: Option<u64>,
}

impl Look {
    fn run(self) -> frazil_connector_api::Result<Found> {
        let Self { source, known, is_first, worker, peers, flush } = self;
        let is_fresh =
            |split: &SplitId| owner(split, peers) == worker && !known.contains_key(split);
        let fresh: Positions = if is_first {
            let starts = source.start_positions()?;
            starts.into_iter().filter(|(split, _)| is_fresh(split)).collect()
        } else {
            // Splits that came later are read from their first message, whatever the start mode.
            let mut fresh = match source.splits() {
                // What was read may be gone.
                Err(error) if error.kind == ConnectorErrorKind::Target => Vec::new(),
                listed => listed?,
            };
            fresh.retain(is_fresh);
            source.first_positions(&fresh)?
        };
        let flush = match flush {
            Some(number) => Some((number, source.end_positions()?.unwrap_or_default())),
            None => None,
        };
        Ok(Found { fresh, is_first, flush })
    }
}

impl Reader {
    fn run(mut self) {
        loop {
            match self.read() {
                Err(Stop) | Ok(Ok(())) => return,
                Ok(Err(error)) if error.retry == Retry::Backoff => {
                    self.attempts += 1;
                    tracing::warn!(%error, attempts = self.attempts, "source failed, trying again");
                    let text = error.with_next_step();
                    if self.send(SourceEvent::Retrying(self.attempts, text)).is_err() {
                        return;
                    }
                    let pause = Duration::from_millis(100) * 2_u32.pow(self.attempts.min(7));
                    std::thread::sleep(pause.min(BACKOFF_MAX));
                }
                Ok(Err(error)) => {
                    let text = error.with_next_step();
                    let error = Error { message: text, detail: None, ..error.into() };
                    let _ = self.send(SourceEvent::Failed(error));
                    return;
                }
            }
        }
    }

    /// Reads until the worker stops it, the source ends or fails.
    fn read(&mut self) -> std::result::Result<frazil_connector_api::Result<()>, Stop> {
        let mut reader: Option<Box<dyn SourceReader>> = None;
        self.look_at = Duration::ZERO;
        loop {
            // A reader that has nothing to send would never learn that nobody takes it.
            if self.asked.stop.load(Ordering::SeqCst) {
                return Err(Stop);
            }
            // A flush that is asked for after a release covers what is released: it is looked at
            // first.
            let flush = self.new_flush();
            self.release();
            self.start_look(flush);
            let opened = match self.take_found(reader.is_none()) {
                Ok(found) => {
                    found.map_or(Ok(()), |found| self.take(found))?;
                    self.open(&mut reader)
                }
                Err(error) if reader.is_some() && error.retry == Retry::Backoff => {
                    self.look_failed(&error)?;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if !self.assigned {
                // A restart begins there, too, whether or not a message has come.
                self.assigned = true;
                self.send(SourceEvent::Assigned(self.offsets.clone()))?;
            }
            if let Err(error) = opened {
                return Ok(Err(error));
            }
            self.report_problem()?;
            let is_awaited = self.target.is_some();
            let Some(reader) = &mut reader else {
                self.nothing_to_read(is_awaited)?;
                continue;
            };
            let poll = match reader.poll(self.config.batch_rows, POLL_TIMEOUT) {
                Ok(poll) => poll,
                Err(error) => return Ok(Err(error)),
            };
            let retired = reader.take_retired();
            // A batch without messages says nothing: the outside may still refuse to answer.
            let is_sign = !matches!(&poll, SourcePoll::Batch(batch) if batch.positions.is_empty());
            if is_sign {
                self.recovered()?;
            }
            // What an earlier poll has not found may be there by now.
            let idle = is_awaited && matches!(poll, SourcePoll::Idle);
            match poll {
                SourcePoll::Batch(batch) => {
                    self.offsets.extend(batch.positions.clone());
                    self.send(SourceEvent::Batch(batch))?;
                }
                SourcePoll::Idle => {}
                SourcePoll::End => return self.ended(),
            }
            self.retire(retired)?;
            self.answer_flush(idle)?;
        }
    }

    /// Looks for splits if it is time, or if a flush is asked for: it covers those that exist then.
    fn start_look(&mut self, flush: Option<u64>) {
        let is_due =
            self.env.elapsed() >= self.look_at || (flush.is_some() && self.failed_looks == 0);
        if self.look.is_some() || !is_due {
            return;
        }
        let look = Look {
            source: Arc::clone(&self.source),
            is_first: !self.discovered && self.offsets.is_empty(),
            known: self.offsets.clone(),
            worker: self.config.worker,
            peers: self.config.peers,
            flush,
        };
        let (sender, found) = sync_channel(1);
        let thread = std::thread::Builder::new().name("frazil-discovery".to_string());
        let started = thread.spawn(move || {
            // A reader that has been stopped does not wait for it.
            let _ = sender.send(look.run());
        });
        if started.is_ok() {
            self.look = Some(found);
        }
    }

    /// What the look has found, if it has come to an end; with `wait` after some time.
    fn take_found(&mut self, wait: bool) -> frazil_connector_api::Result<Option<Found>> {
        let Some(look) = &self.look else { return Ok(None) };
        let timeout = if wait { POLL_TIMEOUT } else { Duration::ZERO };
        let found = match look.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(ConnectorError::internal("the look for new splits has panicked"))
            }
            Ok(found) => found,
        };
        self.look = None;
        let pause = if found.is_ok() { DISCOVERY_INTERVAL } else { DISCOVERY_PAUSE };
        self.look_at = self.env.elapsed() + pause;
        found.map(Some)
    }

    /// Takes what a look has found.
    fn take(&mut self, found: Found) -> std::result::Result<(), Stop> {
        let Found { mut fresh, is_first, flush } = found;
        // They may have been released meanwhile.
        fresh.retain(|split, _| !self.offsets.contains_key(split));
        self.discovered = true;
        self.failed_looks = 0;
        self.target = flush.or(self.target.take());
        if is_first {
            self.assign(fresh);
        } else if self.held.is_none() && !fresh.is_empty() {
            self.held =
                Some(Held { splits: fresh, since: self.asked.flush.load(Ordering::SeqCst) });
            self.send(SourceEvent::Held)?;
        }
        Ok(())
    }

    /// Opens a reader if there are splits that it does not read.
    fn open(&self, reader: &mut Option<Box<dyn SourceReader>>) -> frazil_connector_api::Result<()> {
        if !self.offsets.is_empty() && (reader.is_none() || !self.assigned) {
            *reader = Some(self.source.open(&self.offsets)?);
        }
        Ok(())
    }

    fn assign(&mut self, fresh: Positions) {
        self.assigned &= fresh.is_empty();
        self.offsets.extend(fresh);
    }

    /// Begins to read splits that were held back, if they are released.
    fn release(&mut self) {
        let released = self.asked.released.load(Ordering::SeqCst);
        if let Some(Held { splits, .. }) = self.held.take_if(|held| held.since < released) {
            self.assign(splits);
        }
    }

    /// True if a split has been read to its end, if it has one.
    fn is_past(&self, split: &SplitId, at: &Position, ends: &Positions) -> bool {
        ends.get(split).is_none_or(|end| self.source.is_past(split, at, end))
    }

    /// Tells of splits that are not read while others are.
    fn report_problem(&mut self) -> std::result::Result<(), Stop> {
        if self.look.is_some() || self.failed_looks > 0 {
            return Ok(());
        }
        let problem = self.source.problem();
        if problem != self.problem {
            if let Some(problem) = &problem {
                tracing::warn!("{problem}");
                self.reported_look = true;
                self.send(SourceEvent::Retrying(1, problem.clone()))?;
            }
            self.problem = problem;
        }
        Ok(())
    }

    /// The source cannot be asked for splits; what is known of it is read on.
    fn look_failed(&mut self, error: &ConnectorError) -> std::result::Result<(), Stop> {
        self.failed_looks += 1;
        self.reported_look = true;
        tracing::warn!(%error, "looking for new splits failed, trying again");
        self.send(SourceEvent::Retrying(self.failed_looks, error.with_next_step()))
    }

    /// The source answers: its earlier failures are over.
    fn recovered(&mut self) -> std::result::Result<(), Stop> {
        let had_failed = std::mem::take(&mut self.attempts) > 0 || self.reported_look;
        if had_failed && self.failed_looks == 0 && self.problem.is_none() {
            self.reported_look = false;
            self.send(SourceEvent::Recovered)?;
        }
        Ok(())
    }

    /// This worker has no split: another one may get it later.
    fn nothing_to_read(&mut self, is_awaited: bool) -> std::result::Result<(), Stop> {
        if self.look.is_none() {
            if self.discovered {
                self.recovered()?;
                if !self.told_empty && self.held.is_none() {
                    self.told_empty = true;
                    self.send(SourceEvent::Ended)?;
                }
            }
            std::thread::sleep(POLL_TIMEOUT);
        }
        self.answer_flush(is_awaited)
    }

    /// Forgets splits that were read to their end and are gone.
    fn retire(&mut self, splits: Vec<SplitId>) -> std::result::Result<(), Stop> {
        if splits.is_empty() {
            return Ok(());
        }
        splits.iter().for_each(|split| _ = self.offsets.remove(split));
        self.send(SourceEvent::Retired(splits))
    }

    /// The source is bounded and read: only flushes are left to answer.
    fn ended(&mut self) -> std::result::Result<frazil_connector_api::Result<()>, Stop> {
        self.send(SourceEvent::Ended)?;
        let mut looked_at = self.env.elapsed();
        loop {
            if self.env.elapsed() - looked_at >= DISCOVERY_INTERVAL {
                looked_at = self.env.elapsed();
                // All of them were read: those that are gone are not missed after a restart.
                if let Ok(listed) = self.source.splits() {
                    let gone = self.offsets.keys().filter(|split| !listed.contains(split));
                    let gone = gone.cloned().collect();
                    self.retire(gone)?;
                }
            }
            let asked = self.asked.flush.load(Ordering::SeqCst);
            if asked > self.flushed {
                self.flushed = asked;
                self.send(SourceEvent::Flushed(asked))?;
            }
            std::thread::sleep(POLL_TIMEOUT);
            if self.asked.stop.load(Ordering::SeqCst) {
                return Err(Stop);
            }
        }
    }

    /// Number of a flush that has no target yet.
    ///
    /// Flushes are answered one after the other: a target that moves with every new flush might
    /// never be reached.
    fn new_flush(&self) -> Option<u64> {
        let asked = self.asked.flush.load(Ordering::SeqCst);
        (asked > self.flushed && self.target.is_none()).then_some(asked)
    }

    /// Tells the worker when all that the source held at the flush has been handed over.
    fn answer_flush(&mut self, idle: bool) -> std::result::Result<(), Stop> {
        let reached = self.target.as_ref().is_some_and(|(_, ends)| {
            let at_end = |(split, at)| self.is_past(split, at, ends);
            self.assigned && (idle || self.offsets.iter().all(at_end))
        });
        if reached && let Some((number, _)) = self.target.take() {
            self.flushed = number;
            self.send(SourceEvent::Flushed(number))?;
        }
        Ok(())
    }

    fn send(&self, event: SourceEvent) -> std::result::Result<(), Stop> {
        self.asked.queued_bytes.fetch_add(event.bytes(), Ordering::Relaxed);
        let sent = self.sender.send(event).map_err(|_| Stop);
        self.worker.unpark();
        sent
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.asked.stop.store(true, Ordering::SeqCst);
    }
}

/// The worker that reads a split: the same in every process and after every start.
fn owner(split: &SplitId, peers: usize) -> usize {
    let number = split.0.parse::<u64>().unwrap_or_else(|_| {
        // FNV-1a: short names, and a value that never changes between versions.
        split.0.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    });
    usize::try_from(number % peers as u64).unwrap_or(0)
}

/// The offsets of the splits that a worker reads.
pub(crate) fn own_offsets(offsets: Positions, worker: usize, peers: usize) -> Positions {
    offsets.into_iter().filter(|(split, _)| owner(split, peers) == worker).collect()
}

#[cfg(test)]
mod tests;
