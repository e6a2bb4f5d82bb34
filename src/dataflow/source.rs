//! Reads a source on a thread of its own and hands decoded batches to one worker.
//!
//! ```text
//! splits of this worker ─► SourceReader.poll ─► bounded channel ─► worker
//! ```
//!
//! **Invariant:** a batch is handed over with the offsets that follow it; the worker counts it into
//! an epoch, and with it the offsets. The channel's bound is the backpressure.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use frazil_connector_api::{
    Offsets, Retry, Source, SourceBatch, SourcePoll, SourceReader, SplitId,
};

use crate::env::Env;
use crate::error::{Error, Result, caught};

const POLL_TIMEOUT: Duration = Duration::from_millis(50);
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// What a reader tells its worker.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// Where splits begin that are read from now on.
    Assigned(Offsets),
    /// Rows.
    Batch(SourceBatch),
    /// All that the source held at flush number n has been handed over.
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
    stop: AtomicBool,
}

impl SourceHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(crate) fn spawn(
        source: Arc<dyn Source>,
        offsets: Offsets,
        config: ReaderConfig,
        env: Env,
        worker: Thread,
    ) -> Result<Self> {
        let (sender, events) = sync_channel(config.channel_batches);
        let asked = Arc::new(Asked::default());
        let reader = Reader {
            source,
            assigned: offsets.len(),
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

    /// Asks the reader to tell when it has handed over all that the source holds now.
    pub(crate) fn flush(&self, number: u64) {
        self.asked.flush.store(number, Ordering::SeqCst);
    }
}

/// The worker's end is gone: stop.
struct Stop;

struct Reader {
    source: Arc<dyn Source>,
    offsets: Offsets,
    config: ReaderConfig,
    env: Env,
    worker: Thread,
    sender: SyncSender<SourceEvent>,
    asked: Arc<Asked>,
    flushed: u64,
    /// Where the flush under way ends.
    target: Option<(u64, Offsets)>,
    attempts: u32,
    /// Looked for splits before.
    discovered: bool,
    /// Number of splits that the worker knows of.
    assigned: usize,
    /// Told the worker that there is nothing to read here.
    told_empty: bool,
}

impl Reader {
    fn run(mut self) {
        loop {
            match self.read() {
                Err(Stop) | Ok(Ok(())) => return,
                Ok(Err(error)) if error.retry == Retry::Backoff => {
                    self.attempts += 1;
                    tracing::warn!(%error, attempts = self.attempts, "source failed, trying again");
                    let text = error.to_string();
                    if self.send(SourceEvent::Retrying(self.attempts, text)).is_err() {
                        return;
                    }
                    let pause = Duration::from_millis(100) * 2_u32.pow(self.attempts.min(7));
                    std::thread::sleep(pause.min(BACKOFF_MAX));
                }
                Ok(Err(error)) => {
                    let _ = self.send(SourceEvent::Failed(error.into()));
                    return;
                }
            }
        }
    }

    /// Reads until the worker stops it, the source ends or fails.
    fn read(&mut self) -> std::result::Result<frazil_connector_api::Result<()>, Stop> {
        let mut reader: Option<Box<dyn SourceReader>> = None;
        let mut discovered_at: Option<Duration> = None;
        loop {
            // A reader that has nothing to send would never learn that nobody takes it.
            if self.asked.stop.load(Ordering::SeqCst) {
                return Err(Stop);
            }
            let due = discovered_at.is_none_or(|at| self.env.elapsed() - at >= DISCOVERY_INTERVAL);
            // A flush covers the splits that exist when it is called, so it looks for them first.
            let flush = self.new_flush();
            if due || flush.is_some() {
                let found = self.discover(&mut reader);
                if self.offsets.len() > self.assigned {
                    // A restart begins there, too, whether or not a message has come.
                    self.assigned = self.offsets.len();
                    self.send(SourceEvent::Assigned(self.offsets.clone()))?;
                }
                match found {
                    Ok(()) => discovered_at = Some(self.env.elapsed()),
                    Err(error) => return Ok(Err(error)),
                }
            }
            if let Some(number) = flush {
                match self.source.end_offsets() {
                    Ok(ends) => self.target = Some((number, ends.unwrap_or_default())),
                    Err(error) => return Ok(Err(error)),
                }
            }
            let is_awaited = self.target.is_some();
            let poll = match &mut reader {
                // This worker has no split: another one may get it later.
                None => {
                    if !self.told_empty {
                        self.told_empty = true;
                        self.send(SourceEvent::Ended)?;
                    }
                    std::thread::sleep(POLL_TIMEOUT);
                    Ok(SourcePoll::Idle)
                }
                Some(reader) => reader.poll(self.config.batch_rows, POLL_TIMEOUT),
            };
            let poll = match poll {
                Ok(poll) => poll,
                Err(error) => return Ok(Err(error)),
            };
            if self.attempts > 0 {
                self.attempts = 0;
                self.send(SourceEvent::Recovered)?;
            }
            // What an earlier poll has not found may be there by now.
            let idle = is_awaited && matches!(poll, SourcePoll::Idle);
            match poll {
                SourcePoll::Batch(batch) => {
                    self.offsets.extend(batch.offsets.clone());
                    self.send(SourceEvent::Batch(batch))?;
                }
                SourcePoll::Idle => {}
                SourcePoll::End => return self.ended(),
            }
            self.answer_flush(idle)?;
        }
    }

    /// Looks for splits that are this worker's and opens a reader over all of them if there are
    /// new ones.
    fn discover(
        &mut self,
        reader: &mut Option<Box<dyn SourceReader>>,
    ) -> frazil_connector_api::Result<()> {
        let (worker, peers) = (self.config.worker, self.config.peers);
        let before = self.offsets.len();
        if self.discovered || before > 0 {
            // Splits that came later are read from their first message, whatever the start mode.
            let mut fresh = self.source.splits()?;
            fresh
                .retain(|split| owner(split, peers) == worker && !self.offsets.contains_key(split));
            self.offsets.extend(self.source.first_offsets(&fresh)?);
        } else {
            let starts = self.source.start_offsets()?;
            let mine = starts.into_iter().filter(|(split, _)| owner(split, peers) == worker);
            self.offsets.extend(mine);
        }
        self.discovered = true;
        if !self.offsets.is_empty() && (reader.is_none() || self.offsets.len() > before) {
            *reader = Some(self.source.open(&self.offsets)?);
        }
        Ok(())
    }

    /// The source is bounded and read: only flushes are left to answer.
    fn ended(&mut self) -> std::result::Result<frazil_connector_api::Result<()>, Stop> {
        self.send(SourceEvent::Ended)?;
        loop {
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
            let at_end = |(split, offset)| ends.get(split).is_none_or(|end| offset >= end);
            idle || self.offsets.iter().all(at_end)
        });
        if reached && let Some((number, _)) = self.target.take() {
            self.flushed = number;
            self.send(SourceEvent::Flushed(number))?;
        }
        Ok(())
    }

    fn send(&self, event: SourceEvent) -> std::result::Result<(), Stop> {
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
pub(crate) fn own_offsets(offsets: Offsets, worker: usize, peers: usize) -> Offsets {
    offsets.into_iter().filter(|(split, _)| owner(split, peers) == worker).collect()
}

#[cfg(test)]
mod tests;
