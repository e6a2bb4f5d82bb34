//! [`Coordinator`]: drives epochs, checkpoints, statements and firings; one task in process 0.
//!
//! ```text
//!            Dirty, writes            EpochDone            CheckpointDone (all workers)
//! open epoch ───────────► closed ────────────► visible ─────────────► manifest ─► commits
//! ```
//!
//! **Invariant:** at most `epochs_in_flight` epochs are closed and not done; at most one checkpoint
//! is under way; a statement is applied only when no epoch is in flight and no checkpoint is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::mpsc;

use self::gathering::Gathering;
use self::releases::Releases;
use super::applying::{Applying, CatchingUp, Ddl};
use super::checkpointer::Checkpointer;
use super::done::Done;
use super::flushes::{FlushScope, Flushes};
use super::message::{Message, Reply};
use super::relation_errors::{being_resumed, dropped};
use super::sinks::Sinks;
use super::state::{EngineState, WorkerSilence};
use crate::catalog::{Catalog, RelationId};
use crate::checkpoint::StoredCatalog;
use crate::config::Config;
use crate::dataflow::{
    CatalogChanges, CheckedRelation, Command, Event, PublishedRows, Report, Request,
};
use crate::env::{Env, FolderLock};
use crate::error::{Error, ErrorKind, Result};
use crate::state::{ReadEpochs, ShardRows};

mod checkpoints;
mod ddl;
mod failures;
mod gathering;
mod releases;

/// How long a shutdown waits for commits: what is not committed then is when the engine starts.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// How long the coordinator sleeps if nothing happens.
const IDLE_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of sources after which a checkpoint follows whatever the interval: so much is read again
/// after a crash, and sinks gather so much in memory.
const READ_BYTES_MAX: u64 = 512 << 20;

/// The workers as the coordinator reaches them.
pub(super) struct WorkerLink {
    /// To worker 0, and its thread.
    pub(super) requests: Sender<Request>,
    pub(super) thread: std::thread::Thread,
    /// Workers of all processes.
    pub(super) workers: usize,
    /// Where those of this process take changes of the catalog.
    pub(super) changes: Arc<CatalogChanges>,
}

pub(super) struct Coordinator {
    config: Config,
    env: Env,
    state: Arc<EngineState>,
    requests: Sender<Request>,
    thread: std::thread::Thread,
    workers: usize,
    changes: Arc<CatalogChanges>,
    events: mpsc::UnboundedReceiver<Event>,
    messages: mpsc::Receiver<Message>,
    done: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
    checkpointer: Checkpointer,
    sinks: Sinks,
    /// The catalog with what is being created, which sessions do not see yet.
    catalog: Arc<Catalog>,
    /// What the next checkpoint has of the catalog. Identities of fragments are of failed relations
    /// those that their state belongs to.
    stored_catalog: Arc<StoredCatalog>,
    /// What workers build the relations from.
    planned: BTreeMap<RelationId, Arc<CheckedRelation>>,
    /// The epoch that takes input.
    open_epoch: u64,
    /// The time of the last closed epoch.
    now_ms: i64,
    /// Relations that have input in it.
    with_input: BTreeSet<RelationId>,
    /// Relations that took part in an epoch since the last checkpoint was ordered.
    unsaved: BTreeSet<RelationId>,
    /// True if the catalog or failures have changed since then.
    dirty_since_checkpoint: bool,
    /// True if what starts failed jobs again may have changed since it was published.
    failures_changed: bool,
    /// True if there were failed jobs when it was published.
    has_failures: bool,
    /// New relations that catch up.
    catching_up: Vec<CatchingUp>,
    /// Number of workers on which a new fragment has caught up.
    caught_up: BTreeMap<RelationId, usize>,
    closed_at: Duration,
    checkpoint_at: Duration,
    /// Bytes of sources that workers have reported since the last checkpoint was ordered.
    read_bytes: u64,
    /// When the checkpoint was cut that has become durable, until sinks have begun with it.
    cut_at: Option<Duration>,
    /// Closed epochs and the workers that have finished them.
    in_flight: BTreeMap<u64, usize>,
    gathering: Option<Gathering>,
    /// True while a manifest is written.
    writing: bool,
    applying: VecDeque<Applying>,
    /// Number of the next change of the catalog.
    next_change: u64,
    /// Failures of relations that some workers have built and others have not.
    early_failures: Vec<(RelationId, Error)>,
    acks: Vec<Reply<()>>,
    /// Writes that had not read a newer one, with the epoch that has it.
    refused: Vec<(u64, Reply<()>)>,
    created: Vec<Ddl>,
    flushes: Flushes,
    /// Splits of sources that readers hold back.
    releases: Releases,
    /// What other processes know of the epochs that are read.
    read_epochs: ReadEpochs,
    life: Life,
}

/// How far the engine is in its life.
enum Life {
    Running,
    /// The end is asked for, at this time; the last checkpoint is to be ordered.
    Ending(Reply<()>, Duration),
    /// The last checkpoint is ordered; commits have until [`SHUTDOWN_WAIT`] after that time.
    LastOrdered(Reply<()>, Duration),
}

impl Coordinator {
    #[expect(clippy::too_many_arguments, reason = "the parts of a process, put together once")]
    pub(super) fn new(
        config: Config,
        env: Env,
        state: Arc<EngineState>,
        WorkerLink { requests, thread, workers, changes }: WorkerLink,
        planned: Vec<Arc<CheckedRelation>>,
        events: mpsc::UnboundedReceiver<Event>,
        messages: mpsc::Receiver<Message>,
        checkpointer: Checkpointer,
        sinks: Sinks,
    ) -> Self {
        let manifest = checkpointer.manifest();
        // The first epoch is everybody's: rebuilt views emit what has changed.
        let catalog = state.catalog();
        Self {
            stored_catalog: Arc::clone(manifest.catalog.value()),
            planned: planned.into_iter().map(|it| (it.relation().id, it)).collect(),
            open_epoch: manifest.epoch + 1,
            now_ms: manifest.now_ms,
            with_input: catalog.iter().map(|relation| relation.id).collect(),
            catalog,
            config,
            env,
            state,
            requests,
            thread,
            workers,
            changes,
            events,
            messages,
            done: mpsc::unbounded_channel(),
            checkpointer,
            sinks,
            unsaved: BTreeSet::new(),
            dirty_since_checkpoint: false,
            failures_changed: true,
            has_failures: false,
            catching_up: Vec::new(),
            caught_up: BTreeMap::new(),
            closed_at: Duration::ZERO,
            checkpoint_at: Duration::ZERO,
            read_bytes: 0,
            cut_at: None,
            in_flight: BTreeMap::new(),
            gathering: None,
            writing: false,
            applying: VecDeque::new(),
            next_change: 1,
            early_failures: Vec::new(),
            acks: Vec::new(),
            refused: Vec::new(),
            created: Vec::new(),
            flushes: Flushes::default(),
            releases: Releases::default(),
            read_epochs: ReadEpochs::default(),
            life: Life::Running,
        }
    }

    /// Takes what workers reported while they were restored.
    pub(super) fn take_backlog(&mut self, backlog: Vec<Event>) -> Result<()> {
        backlog.into_iter().try_for_each(|event| self.take_event(event))
    }

    /// Runs until the engine shuts down or cannot continue; keeps the data directory's lock for
    /// that time.
    pub(super) async fn run(mut self, lock: Option<FolderLock>) {
        let mut failure = None;
        let processes = self.config.hosts.len().max(1);
        self.state.workers.begin(self.workers, processes, self.env.elapsed());
        for slot in self.sinks.slots() {
            self.sinks.recover(&slot, &self.env, &self.state, &self.done.0);
        }
        loop {
            let pause = self.pause();
            let step = tokio::select! {
                Some(event) = self.events.recv() => self.take_event(event),
                Some(message) = self.messages.recv() => {
                    self.take_message(message);
                    Ok(())
                }
                Some(done) = self.done.1.recv() => self.take_done(done),
                () = tokio::time::sleep(pause) => Ok(()),
            };
            match step.and_then(|()| self.drive()) {
                Ok(()) if self.is_shut_down() => break,
                Ok(()) => {}
                Err(error) => {
                    self.state.stop_with(error.clone());
                    failure = Some(error);
                    break;
                }
            }
        }
        self.request(Request::Command(Command::Shutdown));
        self.checkpointer.finish().await;
        // The next process may start as soon as the shutdown is answered.
        drop(lock);
        if let Life::Ending(reply, _) | Life::LastOrdered(reply, _) = self.life {
            let _ = reply.send(failure.map_or(Ok(()), Err));
        }
    }

    /// How long nothing needs to be done if nothing happens.
    fn pause(&self) -> Duration {
        let now = self.env.elapsed();
        let waits = self.is_dirty() || self.gathering.is_some();
        if !waits {
            let due = self.sinks.next_due(now).map(|due_at| due_at.saturating_sub(now));
            return IDLE_PAUSE.min(due.unwrap_or(IDLE_PAUSE)).max(Duration::from_millis(1));
        }
        let due = self.closed_at + Duration::from_millis(self.config.epoch_interval_ms);
        due.saturating_sub(now).max(Duration::from_millis(1))
    }

    pub(super) fn request(&self, request: Request) {
        // The worker ends only after this task.
        let _ = self.requests.send(request);
        self.thread.unpark();
    }

    fn take_message(&mut self, message: Message) {
        match message {
            Message::Apply { change, sink, starts, begun, reply } => {
                let ddl = Ddl::new(reply, sink);
                self.applying.push_back(Applying::change(ddl, begun, change, starts));
            }
            Message::Resume { root, begun, reply } => self.resume(root, begun, reply),
            Message::Write { table, changes, keys, read_epoch, reply } => {
                if let Err(error) = self.may_write(table) {
                    let _ = reply.send(Err(error));
                    return;
                }
                let epoch = self.open_epoch;
                if let Err(missed) = self.state.writes.admit(table, keys, read_epoch, epoch) {
                    self.refused.push((missed, reply));
                    // That epoch may be finished by now, and no other may follow.
                    self.answer_refused();
                    return;
                }
                self.request(Request::Write(table, changes));
                self.take_input([table]);
                self.acks.push(reply);
            }
            Message::Flush { only, reply } => {
                let scope = self.flush_scope(only);
                let (number, relations) = self.flushes.start(scope, reply, self.env.elapsed());
                self.ask_readers(number, relations);
            }
            Message::Shutdown { reply } => self.life = Life::Ending(reply, self.env.elapsed()),
        }
    }

    fn may_write(&self, table: RelationId) -> Result<()> {
        let Some(relation) = self.catalog.by_id(table) else { return Err(dropped()) };
        if let Some(error) = self.state.failure(table) {
            let message = format!("table \"{}\" has failed", relation.name);
            return Err(Error::job_failed(message, &error));
        }
        match self.state.is_starting(table) {
            true => Err(being_resumed(relation)),
            false => Ok(()),
        }
    }

    /// Answers refused writes whose statements can now read what they had missed.
    fn answer_refused(&mut self) {
        let finished = self.state.epoch();
        for (_, reply) in self.refused.extract_if(.., |(missed, _)| *missed <= finished) {
            let message = "could not serialize access due to concurrent update";
            let error = Error::new(ErrorKind::SerializationFailure, message);
            let _ = reply.send(Err(error.with_hint("run the statement again")));
        }
    }

    /// What a flush of one sink, or of all that have an interval, concerns.
    fn flush_scope(&self, only: Option<RelationId>) -> FlushScope {
        let catalog = &self.catalog;
        let sinks = match only {
            Some(only) => BTreeSet::from([only]),
            None => self.sinks.paced(&self.state),
        };
        let needed = catalog.upstream(sinks);
        let beside = match only {
            Some(_) => BTreeSet::new(),
            None => catalog.iter().map(|it| it.id).filter(|id| !needed.contains(id)).collect(),
        };
        FlushScope { only, needed, beside }
    }

    /// Input has come for relations.
    fn take_input(&mut self, relations: impl IntoIterator<Item = RelationId>) {
        self.with_input.extend(relations);
        self.state.set_finished(false);
    }

    /// True if the open epoch is to be closed.
    fn is_dirty(&self) -> bool {
        !self.with_input.is_empty() || self.has_caught_up()
    }

    /// True if a checkpoint would have more than the last one.
    fn has_changed(&self) -> bool {
        self.dirty_since_checkpoint || self.is_dirty() || !self.unsaved.is_empty()
    }

    fn take_event(&mut self, event: Event) -> Result<()> {
        let (worker, report) = match event {
            Event::Report(worker, report) => (worker, report),
            Event::SinkChanges { relation, epoch, changes } => {
                if let Some(gathering) = self.gathering.as_mut().filter(|at| at.epoch == epoch) {
                    gathering.sink_changes.entry(relation).or_default().extend(changes);
                }
                return Ok(());
            }
        };
        self.state.workers.note(worker, self.env.elapsed());
        match report {
            Report::Dirty { relations } => self.take_input(relations),
            Report::CaughtUp { relation } => self.caught_up(relation),
            Report::Published(published) => self.published(worker, published),
            Report::EpochDone { epoch } => self.epoch_done(epoch),
            Report::Applied { error } => self.applied(error)?,
            Report::CheckpointDone { epoch, outcome, offsets } => {
                self.gathered(epoch, outcome, offsets);
            }
            Report::Flushed { number, relations } => {
                let (answer, workers) = ((number, &relations[..]), self.workers);
                let held = |relation| self.releases.is_held(relation);
                self.flushes.readers_done(worker, answer, workers, held);
                self.releases.readers_done(worker, answer, workers);
            }
            Report::Held { relation } => self.held(relation),
            Report::SourceEnded { relation } => self.state.set_ended(relation, worker),
            Report::Progress(progress) => {
                self.read_bytes += progress.iter().map(|fragment| fragment.bytes_in).sum::<u64>();
                self.state.add_progress(worker, progress);
            }
            Report::Failed { relation, error } => self.fail(relation, error),
            Report::Retrying { relation, problem } => {
                self.state.set_source_problem(relation, worker, problem);
            }
            Report::Fields { relation, notices } => {
                self.state.set_field_notices(relation, worker, notices);
            }
        }
        Ok(())
    }

    /// Rows of other processes that reads see from the end of their epochs on.
    fn published(&self, worker: usize, published: Vec<PublishedRows>) {
        for PublishedRows { relation, epoch, row_count } in published {
            let shard = ShardRows::There { worker, row_count };
            self.state.snapshots.publish(relation, worker, epoch, shard);
        }
    }

    /// Tells the other processes which epochs are read, so that they keep no others.
    fn tell_read_epochs(&mut self) {
        if self.config.hosts.len() <= 1 {
            return;
        }
        let epochs = self.state.snapshots.read_epochs();
        if epochs != self.read_epochs {
            self.request(Request::Command(Command::Reads(epochs.clone())));
            self.read_epochs = epochs;
        }
    }

    fn epoch_done(&mut self, epoch: u64) {
        let Some(workers) = self.in_flight.get_mut(&epoch) else { return };
        *workers += 1;
        // Epochs end in order on every worker, so the first is complete first.
        while let Some(first) = self.in_flight.first_entry() {
            if *first.get() < self.workers {
                break;
            }
            let epoch = *first.key();
            first.remove();
            self.state.finish_epoch(epoch);
        }
        self.answer_refused();
    }

    /// Does whatever can be done now.
    fn drive(&mut self) -> Result<()> {
        self.note_silent_workers();
        self.undo_catching_up();
        self.send_change();
        self.write_manifest()?;
        self.begin_sinks();
        self.close_epoch();
        self.release_splits();
        self.tell_read_epochs();
        self.publish_restarts();
        self.settle();
        Ok(())
    }

    fn note_silent_workers(&self) {
        for silence in self.state.workers.take_silent(self.env.elapsed()) {
            let WorkerSilence { worker, process, duration } = silence;
            let seconds = duration.as_secs();
            tracing::warn!(worker, process, seconds, "a worker is silent; statements wait for it");
        }
    }

    /// True if no epoch is in flight and no checkpoint is.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.gathering.is_none() && !self.writing
    }

    /// Closes the open epoch if it is time to.
    fn close_epoch(&mut self) {
        let now = self.env.elapsed();
        let statement_waits = !self.applying.is_empty();
        let since_close = now.saturating_sub(self.closed_at);
        let paced = since_close >= Duration::from_millis(self.config.epoch_interval_ms);
        let room = self.in_flight.len() < self.config.epochs_in_flight;
        if statement_waits || !room {
            return;
        }
        let checkpoint = self.gathering.is_none() && !self.writing && self.wants_checkpoint(now);
        if checkpoint || (self.is_dirty() && paced) {
            self.close(checkpoint, now);
        }
    }

    /// Has splits read that were held back, once all rows before them are of closed epochs; flushes
    /// that are to cover them ask their readers again.
    fn release_splits(&mut self) {
        for (relation, number) in self.releases.take_due(&self.with_input) {
            self.request(Request::Command(Command::Release { relation, number }));
            let number = self.flushes.next_number();
            if self.flushes.ask_again(relation, number) {
                self.ask_readers(number, vec![relation]);
            }
        }
    }

    /// A reader has found new splits: all readers of the relation answer a flush before these are
    /// read.
    fn held(&mut self, relation: RelationId) {
        let runs = self.catalog.by_id(relation).is_some() && self.state.failure(relation).is_none();
        if runs {
            let number = self.flushes.next_number();
            self.releases.begin(relation, number);
            self.ask_readers(number, vec![relation]);
        }
    }

    /// Asks the readers of relations to answer a flush.
    fn ask_readers(&self, number: u64, relations: Vec<RelationId>) {
        self.request(Request::Command(Command::Flush { number, relations }));
    }

    fn wants_checkpoint(&self, now: Duration) -> bool {
        let interval = Duration::from_millis(self.config.checkpoint_interval_ms);
        let paced = now.saturating_sub(self.checkpoint_at) >= interval;
        let asked = !self.acks.is_empty()
            || !self.created.is_empty()
            || self.has_caught_up()
            || self.flushes.any_ready()
            || matches!(self.life, Life::Ending(..));
        let changed = self.has_changed();
        let is_late = paced && (changed || self.checkpointer.has_record());
        let is_due = changed
            && (self.read_bytes >= READ_BYTES_MAX || self.sinks.wants_cut(now, &self.state));
        asked || is_late || is_due
    }

    fn close(&mut self, checkpoint: bool, now: Duration) {
        let epoch = self.open_epoch;
        let admitted = self.admit_caught_up();
        let with_input = std::mem::take(&mut self.with_input);
        let mut touched = self.catalog.taking_part(with_input.into_iter().chain(admitted.clone()));
        if checkpoint {
            touched.append(&mut self.unsaved);
        } else {
            self.unsaved.extend(&touched);
        }
        let touched = touched.into_iter().collect();
        // A clock that is put back does not put epochs back.
        self.now_ms = self.now_ms.max(self.env.now_ms());
        self.request(Request::Command(Command::CloseEpoch {
            epoch,
            now_ms: self.now_ms,
            checkpoint,
            touched,
            admitted,
        }));
        self.in_flight.insert(epoch, 0);
        self.open_epoch += 1;
        self.closed_at = now;
        if !checkpoint {
            return;
        }
        (self.checkpoint_at, self.read_bytes) = (now, 0);
        self.dirty_since_checkpoint = false;
        self.life = match std::mem::replace(&mut self.life, Life::Running) {
            Life::Ending(reply, asked_at) => Life::LastOrdered(reply, asked_at),
            life => life,
        };
        self.flushes.begin_checkpoint(now);
        self.gathering = Some(self.cut(epoch));
    }

    /// True once the last checkpoint is written and its commits are made, or have had their time.
    fn is_shut_down(&self) -> bool {
        let Life::LastOrdered(_, asked_at) = &self.life else { return false };
        let is_late = self.env.elapsed().saturating_sub(*asked_at) >= SHUTDOWN_WAIT;
        let is_written = self.gathering.is_none() && !self.writing;
        is_written && (is_late || !self.sinks.any_working(&self.state))
    }

    /// Answers what is complete, and notices when all is done.
    fn settle(&mut self) {
        let (state, sinks) = (&self.state, &self.sinks);
        self.flushes.settle(
            self.env.elapsed(),
            |relation| state.readers(relation),
            |sink| sinks.obstacle(sink, state),
        );
        let quiet = !self.is_dirty()
            && !self.has_changed()
            && self.catching_up.is_empty()
            && self.in_flight.is_empty()
            && self.gathering.is_none()
            && !self.writing
            && self.applying.is_empty()
            && self.releases.is_empty()
            && self.flushes.is_empty();
        if !quiet {
            return;
        }
        let ended = self.state.have_sources_ended(&self.catalog, self.workers);
        self.state.set_finished(ended && self.sinks.all_idle());
    }
}
