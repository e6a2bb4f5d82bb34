//! [`run_worker`]: the loop of one Timely worker.
//!
//! ```text
//! loop { commands; source batches; step; hand complete epochs on; report }
//! ```
//!
//! **Invariant:** the loop never waits for anything but work: I/O is done by source threads and on
//! tokio, and wakes the worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use frazil_connector_api::{BadMessage, ChangeBatch, Decoded, Offsets, SourceBatch};
use futures::FutureExt;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Exchange, Inspect};

use super::asked_flushes::AskedFlushes;
use super::context::WorkerContext;
use super::control::{Command, Report, SourceOffsets};
use super::errors_table::bad_message_rows;
use super::fragment::{Fragment, decoded_bytes, project};
use super::segments::Written;
use super::source::SourceEvent;
use crate::catalog::{Catalog, RelationId};
use crate::config::Config;
use crate::env::Env;
use crate::error::{Error, Result, caught};
use crate::state::SnapshotStore;

/// Bytes that a worker's sources feed into one open epoch: beyond, they wait for it to close.
const EPOCH_BYTES_MAX: usize = 64 << 20;
/// Longest sleep of a worker without work.
const PARK: Duration = Duration::from_millis(100);
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// What worker 0 of process 0 takes from the coordinator, in order.
#[derive(Debug)]
pub enum Request {
    /// For every worker.
    Command(Command),
    /// Rows for a table's open epoch.
    Write(RelationId, Decoded),
}

/// What the coordinator takes from the workers of its process.
#[derive(Debug)]
pub enum Event {
    /// A worker's report; from any process.
    Report(usize, Report),
    /// What sinks take at a checkpoint; from worker 0, before its own report of the checkpoint.
    SinkChanges {
        /// The sink.
        relation: RelationId,
        /// The checkpoint's epoch.
        epoch: u64,
        /// Changes since the checkpoint before.
        changes: Vec<ChangeBatch>,
    },
}

/// What the threads of one process share.
pub struct ProcessShared {
    /// Settings.
    pub config: Config,
    /// The outside.
    pub env: Env,
    /// Readable versions of tables and views.
    pub snapshots: Arc<SnapshotStore>,
    /// Runs the workers' I/O.
    pub tokio: tokio::runtime::Handle,
    /// Number of workers of process 0.
    pub serving: usize,
    /// Where worker 0 sends what reaches it; only in process 0.
    pub events: Option<tokio::sync::mpsc::UnboundedSender<Event>>,
}

mod relations;

type Feed<D> = timely::dataflow::InputHandle<u64, CapacityContainerBuilder<Vec<D>>>;
type Inbox = Rc<RefCell<VecDeque<Command>>>;

/// What a worker's own I/O tells it.
enum Finished {
    Checkpoint { epoch: u64, outcome: Result<Written>, offsets: SourceOffsets },
}

/// One worker.
struct Worker {
    shared: Arc<ProcessShared>,
    index: usize,
    peers: usize,
    catalog: Catalog,
    context: WorkerContext,
    fragments: BTreeMap<RelationId, Fragment>,
    inbox: Inbox,
    commands: Feed<Command>,
    reports: Feed<(usize, Report)>,
    requests: Option<Receiver<Request>>,
    finished: (Sender<Finished>, Receiver<Finished>),
    /// Fence of this start of the engine.
    fence: u64,
    /// The epoch that takes input.
    open_epoch: u64,
    /// Bytes let into it here.
    open_bytes: usize,
    /// Closed epochs that are not done, with the offsets of those that become durable.
    closed: VecDeque<(u64, Option<SourceOffsets>)>,
    /// Flushes that readers of this worker have not answered.
    flushes: AskedFlushes,
    progress_at: Duration,
    /// Where the statement that is applied begins to read sources.
    starts: BTreeMap<RelationId, Offsets>,
    running: bool,
}

/// Runs a worker until it is told to shut down.
pub fn run_worker(
    timely: &mut timely::worker::Worker,
    shared: Arc<ProcessShared>,
    requests: Option<Receiver<Request>>,
) {
    let mut worker = Worker::start(timely, shared, requests);
    while worker.running {
        let busy = worker.turn(timely);
        if busy {
            timely.step();
        } else {
            timely.step_or_park(Some(PARK));
        }
    }
    worker.stop(timely);
}

impl Worker {
    fn start(
        timely: &mut timely::worker::Worker,
        shared: Arc<ProcessShared>,
        requests: Option<Receiver<Request>>,
    ) -> Self {
        let inbox = Inbox::default();
        let (mut commands, mut reports) = (Feed::<Command>::new(), Feed::<(usize, Report)>::new());
        timely.dataflow_named("Control", |scope| {
            let received = Rc::clone(&inbox);
            commands
                .to_stream(scope)
                .broadcast()
                .inspect(move |command| received.borrow_mut().push_back(command.clone()));
            let events = shared.events.clone();
            // An exchange right behind an input keeps records until time advances: an operator
            // between them flushes at once.
            reports.to_stream(scope).map(|report| report).exchange(|_| 0).inspect(
                move |(worker, report)| {
                    if let Some(events) = &events {
                        // The coordinator is gone only when the process goes down.
                        let _ = events.send(Event::Report(*worker, report.clone()));
                    }
                },
            );
        });
        Self {
            index: timely.index(),
            peers: timely.peers(),
            catalog: Catalog::default(),
            context: WorkerContext::default(),
            fragments: BTreeMap::new(),
            inbox,
            commands,
            reports,
            requests,
            finished: std::sync::mpsc::channel(),
            fence: 0,
            open_epoch: 0,
            open_bytes: 0,
            closed: VecDeque::new(),
            flushes: AskedFlushes::default(),
            progress_at: Duration::ZERO,
            starts: BTreeMap::new(),
            running: true,
            shared,
        }
    }

    /// One turn of the loop; true if there was work.
    fn turn(&mut self, timely: &mut timely::worker::Worker) -> bool {
        let mut busy = self.take_requests();
        loop {
            let Some(command) = self.inbox.borrow_mut().pop_front() else { break };
            busy = true;
            self.obey(timely, command);
        }
        busy |= self.read_sources();
        busy |= self.hand_on();
        busy |= self.finish_epochs();
        busy |= self.finish_checkpoints();
        self.report_failures();
        self.report_progress();
        busy
    }

    /// Reports what has failed. This comes before the report that an epoch or a checkpoint is done,
    /// so that nobody takes the rows of a failed fragment for those of the whole epoch.
    fn report_failures(&mut self) {
        for (relation, error) in self.context.take_failures() {
            if let Some(fragment) = self.fragments.get_mut(&relation) {
                // Nobody takes what they read any more.
                fragment.sources.clear();
            }
            self.report(Report::Failed { relation, error });
        }
    }

    fn finish_checkpoints(&mut self) -> bool {
        let mut busy = false;
        while let Ok(Finished::Checkpoint { epoch, outcome, offsets }) = self.finished.1.try_recv()
        {
            busy = true;
            let outcome = outcome.map(|Written { segments, failures }| {
                for (relation, error) in failures {
                    self.fail(relation, error);
                }
                segments
            });
            self.report_failures();
            self.report(Report::CheckpointDone { epoch, outcome, offsets });
        }
        busy
    }

    fn fail(&self, relation: RelationId, error: Error) {
        if let Some(fragment) = self.fragments.get(&relation) {
            fragment.context.fail(error);
        }
    }

    fn report(&mut self, report: Report) {
        self.reports.send((self.index, report));
        self.reports.flush();
    }

    /// Passes the coordinator's commands on to all workers and takes its rows; worker 0 alone.
    fn take_requests(&mut self) -> bool {
        let Some(requests) = &self.requests else { return false };
        let mut taken = false;
        let mut writes = Vec::new();
        loop {
            match requests.try_recv() {
                Ok(Request::Command(command)) => {
                    self.commands.send(command);
                    self.commands.flush();
                }
                Ok(Request::Write(relation, data)) => writes.push((relation, data)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    // The engine could not start: all workers end.
                    self.requests = None;
                    self.commands.send(Command::Shutdown);
                    self.commands.flush();
                    return true;
                }
            }
            taken = true;
        }
        for (relation, data) in writes {
            self.admit(decoded_bytes(&data));
            if let Some(fragment) = self.fragments.get_mut(&relation) {
                fragment.feed(0, data);
            }
        }
        taken
    }

    /// Counts bytes into the open epoch; the first ones are reported, so that it is closed.
    fn admit(&mut self, bytes: usize) {
        if self.open_bytes == 0 {
            self.report(Report::Dirty { epoch: self.open_epoch });
        }
        self.open_bytes += bytes.max(1);
    }

    fn obey(&mut self, timely: &mut timely::worker::Worker, command: Command) {
        match command {
            Command::Apply { statements, epoch, recovery, starts } => {
                (self.open_epoch, self.starts) = (epoch, starts);
                let outcome = match recovery {
                    None => self.apply(timely, &statements),
                    Some(recovery) => {
                        self.recover(timely, &statements, &recovery);
                        Ok(())
                    }
                };
                self.report_failures();
                self.report(Report::Applied { error: outcome.err() });
            }
            Command::Remove { relations } => {
                for id in relations {
                    self.remove(id);
                    if let Some(relation) = self.catalog.by_id(id).cloned() {
                        self.catalog.remove(&relation.name);
                    }
                }
                self.report(Report::Applied { error: None });
            }
            Command::CloseEpoch { epoch, checkpoint } => self.close_epoch(epoch, checkpoint),
            Command::Flush { number, relations } => {
                self.flushes.ask(number, relations, &self.fragments);
            }
            Command::Shutdown => self.running = false,
        }
    }

    fn close_epoch(&mut self, epoch: u64, checkpoint: bool) {
        let offsets = checkpoint.then(|| {
            self.context.order_checkpoint(epoch);
            let reading = self.fragments.values().filter(|fragment| !fragment.sources.is_empty());
            reading.map(|fragment| (fragment.relation, fragment.offsets())).collect()
        });
        for fragment in self.fragments.values_mut() {
            fragment.close_epoch(epoch);
        }
        self.closed.push_back((epoch, offsets));
        self.open_epoch = epoch + 1;
        self.open_bytes = 0;
    }

    /// Takes a batch from every source that has one.
    fn read_sources(&mut self) -> bool {
        if self.open_bytes >= EPOCH_BYTES_MAX {
            return false;
        }
        let mut events = Vec::new();
        for fragment in self.fragments.values_mut() {
            for (index, source) in fragment.sources.iter_mut().enumerate() {
                if let Some(event) = source.handle.try_next() {
                    events.push((fragment.relation, index, event));
                }
            }
        }
        let busy = !events.is_empty();
        for (relation, index, event) in events {
            self.take_event(relation, index, event);
        }
        self.answer_flushes();
        busy
    }

    fn take_event(&mut self, relation: RelationId, index: usize, event: SourceEvent) {
        let report = match event {
            SourceEvent::Assigned(offsets) => {
                self.source(relation, index, |source| {
                    offsets.into_iter().for_each(|(split, offset)| {
                        source.offsets.entry(split).or_insert(offset);
                    });
                });
                // So that a checkpoint follows, which has them.
                self.admit(1);
                None
            }
            SourceEvent::Batch(batch) => {
                self.take_batch(relation, index, batch);
                None
            }
            SourceEvent::Retired(splits) => {
                self.source(relation, index, |source| {
                    splits.iter().for_each(|split| _ = source.offsets.remove(split));
                });
                self.admit(1);
                None
            }
            SourceEvent::Flushed(number) => {
                self.source(relation, index, |source| source.flushed = number);
                None
            }
            SourceEvent::Ended => {
                self.source(relation, index, |source| source.ended = true);
                let ended = self.fragments.get(&relation).is_some_and(Fragment::has_ended);
                ended.then_some(Report::SourceEnded { relation })
            }
            SourceEvent::Retrying(attempts, error) => {
                Some(Report::Retrying { relation, problem: Some((attempts, error)) })
            }
            SourceEvent::Recovered => Some(Report::Retrying { relation, problem: None }),
            SourceEvent::Failed(error) => {
                // Nothing more comes: no flush waits for it.
                self.source(relation, index, |source| {
                    (source.flushed, source.ended) = (u64::MAX, true);
                });
                self.fail(relation, error.within("source"));
                None
            }
        };
        if let Some(report) = report {
            self.report(report);
        }
    }

    fn source(
        &mut self,
        relation: RelationId,
        index: usize,
        change: impl FnOnce(&mut super::fragment::SourceInput),
    ) {
        let fragment = self.fragments.get_mut(&relation);
        if let Some(source) = fragment.and_then(|fragment| fragment.sources.get_mut(index)) {
            change(source);
        }
    }

    /// Feeds a source's batch, and its bad messages into the errors table.
    fn take_batch(&mut self, relation: RelationId, index: usize, batch: SourceBatch) {
        let bad_bytes = |bad: &BadMessage| bad.payload.as_ref().map_or(0, Vec::len);
        let bad: usize = batch.bad.iter().map(bad_bytes).sum();
        self.admit(decoded_bytes(&batch.data) + bad);
        let Some(fragment) = self.fragments.get_mut(&relation) else { return };
        let Some(source) = fragment.sources.get_mut(index) else { return };
        source.offsets.extend(batch.offsets);
        let (feeds, errors, read) = (source.feeds.clone(), source.errors, source.relation);
        fragment.progress.rows_in += batch.data.num_rows() as u64;
        fragment.progress.bytes_in += batch.bytes;
        fragment.progress.bad_messages += batch.bad.len() as u64;
        for (feed, columns) in feeds {
            let projected = caught("source", || match &batch.data {
                Decoded::Changes(changes) => {
                    project(changes, columns.as_deref()).map(Decoded::Changes)
                }
                data => Ok(data.clone()),
            });
            match projected {
                Ok(data) if data.num_rows() > 0 => fragment.feed(feed, data),
                Ok(_) => {}
                Err(error) => return fragment.context.fail(error),
            }
        }
        // Every view reads a source for itself: the first of them keeps the bad messages.
        let reads = |other: &Fragment| other.sources.iter().any(|source| source.relation == read);
        let is_first = !self.fragments.range(..relation).any(|(_, other)| reads(other));
        if batch.bad.is_empty() || !is_first {
            return;
        }
        let rows = bad_message_rows(&batch.bad);
        if let (Ok(rows), Some(errors)) = (rows, errors.and_then(|id| self.fragments.get_mut(&id)))
        {
            errors.feed(0, Decoded::Changes(ChangeBatch::inserts(rows)));
        }
    }

    fn answer_flushes(&mut self) {
        for (number, relations) in self.flushes.take_answered(&self.fragments) {
            self.report(Report::Flushed { number, relations });
        }
    }

    /// Hands complete epochs from fragments to those that follow them.
    fn hand_on(&mut self) -> bool {
        let mut busy = false;
        let ids: Vec<RelationId> = self.fragments.keys().copied().collect();
        for id in ids {
            let Some(mut fragment) = self.fragments.remove(&id) else { continue };
            for input in &mut fragment.relations {
                let limit = match self.fragments.get(&input.upstream) {
                    None => self.open_epoch,
                    Some(upstream) => upstream.done_before(self.open_epoch),
                };
                match caught("an input", || input.advance(limit)) {
                    Ok(moved) => busy |= moved,
                    Err(error) => {
                        fragment.context.fail(error);
                        input.skip_to(limit);
                    }
                }
            }
            self.fragments.insert(id, fragment);
        }
        busy
    }

    /// Reports closed epochs that are done, and makes those durable that are to be.
    fn finish_epochs(&mut self) -> bool {
        let mut busy = false;
        while let Some((epoch, _)) = self.closed.front() {
            let epoch = *epoch;
            if !self.fragments.values().all(|fragment| fragment.is_done(epoch)) {
                break;
            }
            busy = true;
            let checkpoint = self.closed.pop_front().and_then(|(_, offsets)| offsets);
            self.report_failures();
            self.report(Report::EpochDone { epoch });
            if let Some(offsets) = checkpoint {
                self.write_checkpoint(epoch, offsets);
            }
        }
        busy
    }

    /// Writes what the operators deposited, on tokio; the worker goes on.
    fn write_checkpoint(&mut self, epoch: u64, offsets: SourceOffsets) {
        for fragment in self.fragments.values() {
            let Some(collected) = &fragment.collected else { continue };
            let changes = std::mem::take(&mut *collected.borrow_mut());
            if let Some(events) = &self.shared.events {
                let relation = fragment.relation;
                let _ = events.send(Event::SinkChanges { relation, epoch, changes });
            }
        }
        let deltas = self.context.take_checkpoint(epoch);
        let (shared, worker) = (Arc::clone(&self.shared), self.index);
        let (finished, thread) = (self.finished.0.clone(), std::thread::current());
        self.shared.tokio.spawn(async move {
            // A panic must not leave the checkpoint without an answer.
            let write = super::segments::write(&shared.env, worker, epoch, deltas);
            let outcome = AssertUnwindSafe(write).catch_unwind().await;
            let outcome = outcome
                .unwrap_or_else(|panic| Err(Error::panicked("a checkpoint", panic.as_ref())));
            let _ = finished.send(Finished::Checkpoint { epoch, outcome, offsets });
            thread.unpark();
        });
    }

    fn report_progress(&mut self) {
        let now = self.shared.env.elapsed();
        if now - self.progress_at < PROGRESS_INTERVAL {
            return;
        }
        self.progress_at = now;
        let progress = self.fragments.values_mut().map(Fragment::take_progress).collect();
        self.report(Report::Progress(progress));
    }

    /// Closes all inputs and lets Timely come to an end.
    fn stop(mut self, timely: &mut timely::worker::Worker) {
        self.fragments.clear();
        drop(self.commands);
        drop(self.reports);
        while timely.has_dataflows() {
            timely.step_or_park(Some(PARK));
        }
    }
}
