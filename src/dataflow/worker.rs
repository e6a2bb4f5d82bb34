//! [`run_worker`]: the loop of one Timely worker.
//!
//! ```text
//! loop { commands; source batches; step; hand complete epochs on; report }
//! ```
//!
//! **Invariant:** the loop never waits for anything but work: I/O is done by source threads and on
//! tokio, and wakes the worker.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Duration;

use frazil_connector_api::{ChangeBatch, Decoded, Fence, Positions, SourceBatch};
use futures::FutureExt;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Exchange, Inspect};

use super::asked_flushes::AskedFlushes;
use super::catalog_change::CatalogChanges;
use super::context::WorkerContext;
use super::control::{BACKFILL_EPOCHS, Command, Report, SourceOffsets};
use super::errors_table::bad_message_rows;
use super::fragment::{EarlyParts, Fragment, RelationInput, project};
use super::packet::Feed;
use super::reads::{RemoteRows, RowsChunk};
use super::segments::Written;
use super::source::SourceEvent;
use crate::catalog::{Catalog, RelationId};
use crate::config::Config;
use crate::env::Env;
use crate::error::{Error, Result, caught};
use crate::state::{MemoryAccount, SnapshotStore};

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
    /// Rows for a table's open epoch: all are of one epoch.
    Write(RelationId, Vec<Decoded>),
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
    /// Who holds how much memory.
    pub memory: Arc<MemoryAccount>,
    /// Runs the workers' I/O.
    pub tokio: tokio::runtime::Handle,
    /// Number of workers of each process.
    pub threads: usize,
    /// Changes of the catalog, for the workers to apply.
    pub changes: Arc<CatalogChanges>,
    /// Rows that workers of other processes keep; only in process 0 of several.
    pub remote_rows: Option<Arc<RemoteRows>>,
    /// Where worker 0 sends what reaches it; only in process 0.
    pub events: Option<tokio::sync::mpsc::UnboundedSender<Event>>,
}

mod memory;
mod reads;
mod relations;
mod serve_reads;

use reads::Reads;

type Inbox = Rc<RefCell<VecDeque<Command>>>;

/// What a worker's own I/O tells it.
enum Finished {
    Checkpoint { epoch: u64, outcome: Result<Written>, offsets: SourceOffsets },
    Read { number: u64, answer: Result<RowsChunk> },
}

/// An epoch that takes no more input.
struct ClosedEpoch {
    epoch: u64,
    /// The relations that take part.
    relations: Vec<RelationId>,
    /// If it becomes durable: where its sources are read on.
    offsets: Option<SourceOffsets>,
}

/// One worker.
struct Worker {
    shared: Arc<ProcessShared>,
    index: usize,
    peers: usize,
    catalog: Catalog,
    context: WorkerContext,
    fragments: BTreeMap<RelationId, Fragment>,
    /// Fragments that read sources: the others are not asked for input.
    reading: BTreeSet<RelationId>,
    /// Fragments of sinks.
    collecting: BTreeSet<RelationId>,
    /// Fragments that are in no checkpoint yet.
    early: BTreeSet<RelationId>,
    /// Fragments that may hold input of the open epoch.
    holding: BTreeSet<RelationId>,
    inbox: Inbox,
    commands: Feed<Command>,
    reports: Feed<(usize, Report)>,
    /// Reads of other processes' rows, if there are other processes.
    reads: Option<Reads>,
    requests: Option<Receiver<Request>>,
    finished: (Sender<Finished>, Receiver<Finished>),
    /// Fence of this start of the engine.
    fence: Fence,
    /// Number of the last change of the catalog.
    change: u64,
    /// The epoch that takes input.
    open_epoch: u64,
    /// Closed epochs that are not done.
    closed: VecDeque<ClosedEpoch>,
    /// Fragments that have something to do: the others cost nothing.
    active: BTreeSet<RelationId>,
    /// Flushes that readers of this worker have not answered.
    flushes: AskedFlushes,
    progress_at: Duration,
    accounted_at: Duration,
    /// When rows may be moved to scratch files again, after the disk has refused some.
    move_at: Duration,
    /// When the resident memory is looked at again.
    resident_at: Duration,
    /// Number of jobs that failed here because memory was short, or had failed before.
    failed_for_memory: usize,
    /// Where the statement that is applied begins to read sources.
    starts: BTreeMap<RelationId, Positions>,
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
        let reads = Reads::start(timely, shared.threads, shared.remote_rows.clone());
        Self {
            index: timely.index(),
            peers: timely.peers(),
            catalog: Catalog::default(),
            context: WorkerContext::new(&shared.memory),
            fragments: BTreeMap::new(),
            reading: BTreeSet::new(),
            collecting: BTreeSet::new(),
            early: BTreeSet::new(),
            holding: BTreeSet::new(),
            inbox,
            commands,
            reports,
            reads,
            requests,
            finished: std::sync::mpsc::channel(),
            fence: Fence::default(),
            change: 0,
            open_epoch: 0,
            closed: VecDeque::new(),
            active: BTreeSet::new(),
            flushes: AskedFlushes::default(),
            progress_at: Duration::ZERO,
            accounted_at: Duration::ZERO,
            move_at: Duration::ZERO,
            resident_at: Duration::ZERO,
            failed_for_memory: 0,
            starts: BTreeMap::new(),
            running: true,
            shared,
        }
    }

    /// One turn of the loop; true if there was work.
    fn turn(&mut self, timely: &mut timely::worker::Worker) -> bool {
        #[cfg(test)]
        self.shared.env.stall();
        let mut busy = self.take_requests();
        loop {
            let Some(command) = self.inbox.borrow_mut().pop_front() else { break };
            busy = true;
            self.obey(timely, command);
        }
        busy |= self.serve_reads();
        busy |= self.read_sources();
        self.write_early();
        busy |= self.hand_on();
        busy |= self.finish_epochs();
        busy |= self.take_finished();
        self.account_memory();
        self.report_failures();
        self.report_progress();
        busy
    }

    /// Reports what has failed. This comes before the report that an epoch or a checkpoint is done,
    /// so that nobody takes the rows of a failed fragment for those of the whole epoch.
    fn report_failures(&mut self) {
        for (relation, error) in self.context.take_failures() {
            if let Some(fragment) = self.fragments.get_mut(&relation) {
                fragment.release();
            }
            self.report(Report::Failed { relation, error });
        }
    }

    fn take_finished(&mut self) -> bool {
        let mut busy = false;
        while let Ok(finished) = self.finished.1.try_recv() {
            busy = true;
            match finished {
                Finished::Checkpoint { epoch, outcome, offsets } => {
                    self.checkpoint_done(epoch, outcome, offsets);
                }
                Finished::Read { number, answer } => self.answer(number, answer),
            }
        }
        busy
    }

    /// Reports how many rows this worker has published for process 0. It precedes the report that
    /// the epoch is done, so that a read of that epoch knows them.
    fn report_published(&mut self) {
        let published = self.context.take_published();
        if !published.is_empty() {
            self.report(Report::Published(published));
        }
    }

    fn checkpoint_done(&mut self, epoch: u64, outcome: Result<Written>, offsets: SourceOffsets) {
        let outcome = outcome.map(|Written { stored, failures }| {
            for (relation, error) in failures {
                self.fail(relation, error);
            }
            stored
        });
        self.report_failures();
        self.report(Report::CheckpointDone { epoch, outcome, offsets });
    }

    fn fail(&self, relation: RelationId, error: Error) {
        if let Some(fragment) = self.fragments.get(&relation) {
            fragment.context.fail(error);
        }
    }

    /// Reports to the coordinator: of its own process at once, of others through worker 0.
    fn report(&mut self, report: Report) {
        match &self.shared.events {
            // The coordinator is gone only when the process goes down.
            Some(events) => _ = events.send(Event::Report(self.index, report)),
            None => {
                self.reports.send((self.index, report));
                self.reports.flush();
            }
        }
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
            // The coordinator knows of it.
            if let Some(fragment) = self.fragments.get_mut(&relation) {
                data.into_iter().for_each(|data| fragment.hold(0, data));
                self.holding.insert(relation);
            }
        }
        taken
    }

    /// Reports that input has come for relations, unless that is known.
    fn report_dirty(&mut self, relations: &[RelationId]) {
        let mut fresh = Vec::new();
        for relation in relations {
            let Some(fragment) = self.fragments.get_mut(relation) else { continue };
            if !std::mem::replace(&mut fragment.is_dirty, true) {
                fresh.push(*relation);
            }
        }
        if !fresh.is_empty() {
            self.report(Report::Dirty { relations: fresh });
        }
    }

    fn obey(&mut self, timely: &mut timely::worker::Worker, command: Command) {
        match command {
            Command::Apply { number, steps, epoch, recovery, starts } => {
                (self.open_epoch, self.starts, self.change) = (epoch, starts, number);
                let change = self.shared.changes.take(number, &steps, recovery.as_deref());
                let outcome = change.and_then(|change| match &recovery {
                    None => self.apply(timely, &change),
                    Some(recovery) if recovery.resumes => self.resume(timely, &change, recovery),
                    Some(recovery) => {
                        self.recover(timely, &change, recovery);
                        Ok(())
                    }
                });
                if recovery.is_none_or(|recovery| recovery.resumes) {
                    self.open_epoch += BACKFILL_EPOCHS;
                }
                self.report_failures();
                self.report_published();
                self.report(Report::Applied { error: outcome.err() });
            }
            Command::CloseEpoch { epoch, now_ms, checkpoint, touched, admitted } => {
                self.context.note_time(epoch, now_ms);
                self.close_epoch(epoch, checkpoint, touched, &admitted);
            }
            Command::Flush { number, relations } => {
                self.flushes.ask(number, relations, &self.fragments);
            }
            Command::Release { relation, number } => {
                let fragment = self.fragments.get(&relation);
                let sources = fragment.into_iter().flat_map(|fragment| &fragment.sources);
                sources.for_each(|source| source.handle.release(number));
            }
            Command::Reads(epochs) => {
                // One worker of a process tells it.
                if self.shared.events.is_none() && self.index.is_multiple_of(self.shared.threads) {
                    self.shared.snapshots.keep(epochs);
                }
            }
            Command::Shutdown => self.running = false,
        }
    }

    /// Closes an epoch for the relations that take part in it.
    fn close_epoch(
        &mut self,
        epoch: u64,
        checkpoint: bool,
        mut relations: Vec<RelationId>,
        admitted: &[RelationId],
    ) {
        if checkpoint {
            self.context.order_checkpoint(epoch);
        }
        for relation in admitted {
            if let Some(fragment) = self.fragments.get(relation) {
                let admitted = caught("an admission", || fragment.admit(epoch));
                admitted.unwrap_or_else(|error| fragment.context.fail(error));
            }
        }
        relations.retain(|relation| {
            self.holding.remove(relation);
            let fragment = self.fragments.get_mut(relation);
            let Some(fragment) = fragment.filter(|fragment| fragment.is_admitted()) else {
                return false;
            };
            fragment.close_epoch(epoch);
            self.active.insert(*relation);
            true
        });
        let offsets = checkpoint.then(|| {
            let reading = self.reading.iter().filter_map(|it| self.fragments.get(it));
            let reading =
                reading.filter(|fragment| fragment.is_admitted() && !fragment.sources.is_empty());
            reading.map(|fragment| (fragment.relation, fragment.offsets())).collect()
        });
        self.closed.push_back(ClosedEpoch { epoch, relations, offsets });
        self.open_epoch = epoch + 1;
        let active = self.active.iter().filter_map(|relation| self.fragments.get(relation));
        let oldest = active.map(|fragment| fragment.oldest_epoch(self.open_epoch)).min();
        self.context.forget_times(oldest.unwrap_or(self.open_epoch));
    }

    /// Takes a batch from every source that has one.
    fn read_sources(&mut self) -> bool {
        if self.held_bytes() >= EPOCH_BYTES_MAX || self.sources_wait_for_memory() {
            return false;
        }
        let mut events = Vec::new();
        // What a new fragment reads before it takes part would only be held.
        for relation in &self.reading {
            let Some(fragment) = self.fragments.get_mut(relation) else { continue };
            if !fragment.is_admitted() {
                continue;
            }
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

    /// Memory of the input of the open epoch.
    fn held_bytes(&self) -> usize {
        let holding = self.holding.iter().filter_map(|it| self.fragments.get(it));
        holding.map(|fragment| fragment.held_bytes).sum()
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
                self.report_dirty(&[relation]);
                None
            }
            SourceEvent::Held => Some(Report::Held { relation }),
            SourceEvent::Batch(mut batch) => {
                let changes = std::mem::take(&mut batch.schema_changes);
                let mut has_changed = false;
                self.source(relation, index, |source| has_changed = source.notices.take(changes));
                self.take_batch(relation, index, batch);
                has_changed.then(|| self.notices(relation)).flatten()
            }
            SourceEvent::Retired(splits) => {
                let mut had_notices = false;
                self.source(relation, index, |source| {
                    for split in &splits {
                        source.offsets.remove(split);
                        had_notices |= source.notices.retire(split);
                    }
                });
                self.report_dirty(&[relation]);
                had_notices.then(|| self.notices(relation)).flatten()
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

    /// How messages of all sources of a fragment differ from the declared columns.
    fn notices(&self, relation: RelationId) -> Option<Report> {
        let sources = &self.fragments.get(&relation)?.sources;
        let notices = sources.iter().flat_map(|source| source.notices.iter()).cloned().collect();
        Some(Report::Fields { relation, notices })
    }

    /// Feeds a source's batch, and its bad messages into the errors table.
    fn take_batch(&mut self, relation: RelationId, index: usize, batch: SourceBatch) {
        let Some(fragment) = self.fragments.get_mut(&relation) else { return };
        let Some(source) = fragment.sources.get_mut(index) else { return };
        source.offsets.extend(batch.positions);
        let (feeds, errors) = (source.feeds.clone(), source.errors);
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
                Ok(data) if data.num_rows() > 0 => {
                    fragment.hold(feed, data);
                    self.holding.insert(relation);
                }
                Ok(_) => {}
                Err(error) => return fragment.context.fail(error),
            }
        }
        let errors = errors.filter(|_| !batch.bad.is_empty());
        let rows = bad_message_rows(&batch.bad, self.shared.env.now_us());
        if let (Ok(rows), Some(errors)) = (rows, errors.and_then(|id| self.fragments.get_mut(&id)))
        {
            errors.hold(0, Decoded::Changes(ChangeBatch::inserts(rows)));
            self.holding.insert(errors.relation);
        }
        // Also of a batch that has offsets alone.
        self.report_dirty(&[relation]);
        self.report_dirty(errors.as_slice());
    }

    fn answer_flushes(&mut self) {
        for (number, relations) in self.flushes.take_answered(&self.fragments) {
            self.report(Report::Flushed { number, relations });
        }
    }

    /// Has state written of fragments that are in no checkpoint yet.
    fn write_early(&mut self) {
        for relation in &self.early {
            if let Some(fragment) = self.fragments.get_mut(relation) {
                fragment.write_early(self.index);
            }
        }
    }

    /// The early state of fragments whose first checkpoint this is.
    fn take_early(&mut self, epoch: u64) -> Vec<(RelationId, EarlyParts)> {
        let mut taken = Vec::new();
        self.early.retain(|relation| {
            let Some(fragment) = self.fragments.get_mut(relation) else { return false };
            if !fragment.context.is_admitted(epoch) {
                return true;
            }
            let parts = Some(fragment.early.take()).filter(|parts| !parts.is_empty());
            taken.extend(parts.map(|parts| (*relation, parts)));
            false
        });
        taken
    }

    /// Hands complete epochs from fragments to those that follow them.
    fn hand_on(&mut self) -> bool {
        let mut busy = false;
        let active: Vec<RelationId> = self.active.iter().copied().collect();
        for id in active {
            let Some(mut fragment) = self.fragments.remove(&id) else {
                self.active.remove(&id);
                continue;
            };
            let complete = |input: &RelationInput| match self.fragments.get(&input.upstream) {
                None => self.open_epoch,
                Some(upstream) => upstream.complete_before(self.open_epoch),
            };
            let limits: Vec<u64> = fragment.relations.iter().map(complete).collect();
            let moved = caught("an input", || match fragment.is_admitted() {
                true => fragment.follow(&limits),
                false => fragment.catch_up(&limits, self.open_epoch),
            });
            match moved {
                Ok(moved) => busy |= moved,
                Err(error) => {
                    fragment.context.fail(error);
                    fragment.skip_to(self.open_epoch);
                }
            }
            if !fragment.is_admitted()
                && !fragment.has_caught_up
                && fragment.is_level_with(self.open_epoch)
                && !fragment.early.is_writing()
            {
                fragment.has_caught_up = true;
                self.report(Report::CaughtUp { relation: id });
            }
            if fragment.is_idle() {
                self.active.remove(&id);
            }
            self.fragments.insert(id, fragment);
        }
        busy
    }

    /// Reports closed epochs that are done, and makes those durable that are to be.
    fn finish_epochs(&mut self) -> bool {
        let mut busy = false;
        while let Some(closed) = self.closed.front() {
            let epoch = closed.epoch;
            let mut taking_part = closed.relations.iter().filter_map(|it| self.fragments.get(it));
            if !taking_part.all(|fragment| fragment.is_done(epoch)) {
                break;
            }
            busy = true;
            let checkpoint = self.closed.pop_front().and_then(|closed| closed.offsets);
            self.report_failures();
            self.report_published();
            self.report(Report::EpochDone { epoch });
            if let Some(offsets) = checkpoint {
                self.write_checkpoint(epoch, offsets);
            }
        }
        busy
    }

    /// Writes what the operators deposited: beside the worker, on tokio, unless it is small.
    fn write_checkpoint(&mut self, epoch: u64, offsets: SourceOffsets) {
        for fragment in self.collecting.iter().filter_map(|it| self.fragments.get(it)) {
            let Some(collected) = &fragment.collected else { continue };
            let changes = std::mem::take(&mut *collected.borrow_mut());
            if let Some(events) = &self.shared.events {
                let relation = fragment.relation;
                let _ = events.send(Event::SinkChanges { relation, epoch, changes });
            }
        }
        let deltas = self.context.take_checkpoint(epoch);
        let early = self.take_early(epoch);
        if early.is_empty() && super::segments::are_small(&deltas) {
            let written = super::segments::encode_small(self.index, &deltas);
            return self.checkpoint_done(epoch, Ok(written), offsets);
        }
        let (shared, worker) = (Arc::clone(&self.shared), self.index);
        let (finished, thread) = (self.finished.0.clone(), std::thread::current());
        self.shared.tokio.spawn(async move {
            // A panic must not leave the checkpoint without an answer.
            let write = async {
                let written = super::segments::write(&shared.env, worker, epoch, deltas);
                let (early, written) = tokio::join!(EarlyParts::finish_all(early), written);
                written.map(|written| early.followed_by(written))
            };
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
        self.report_due();
        let open = self.open_epoch;
        let fragments = self.fragments.values_mut();
        let progress = fragments.map(|fragment| fragment.take_progress(open)).collect();
        self.report(Report::Progress(progress));
    }

    /// Has epochs end for operators that have something to do by now, without input.
    fn report_due(&mut self) {
        let now = self.shared.env.now_us();
        let is_due = |fragment: &&Fragment| {
            let mut due = fragment.operators.iter().filter_map(|it| it.borrow().due_at());
            fragment.is_admitted() && due.any(|due| due <= now)
        };
        let due = self.fragments.values().filter(is_due).map(|fragment| fragment.relation);
        let due: Vec<RelationId> = due.collect();
        self.report_dirty(&due);
    }

    /// Closes all inputs and lets Timely come to an end.
    fn stop(mut self, timely: &mut timely::worker::Worker) {
        self.fragments.clear();
        drop(self.commands);
        drop(self.reports);
        drop(self.reads);
        if let Some(rows) = &self.shared.remote_rows {
            rows.close();
        }
        while timely.has_dataflows() {
            timely.step_or_park(Some(PARK));
        }
    }
}
