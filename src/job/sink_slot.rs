//! [`SinkSlot`]: a sink, its pending changes, and its two phases.
//!
//! ```text
//! changes ─► log ─► [manifest n] ─► writers, merge ─► [manifest m] ─► commit, until it succeeds
//!  checkpoint n: names the log      beside all else     names the committable, not the log
//! ```
//!
//! **Invariant:** at every manifest each change is in exactly one of: the target, the committable,
//! the log of pending changes. So a sink that is stopped by an error loses nothing: RESUME, or the
//! next process, opens it again and continues where it was.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use frazil_connector_api::{
    ChangeBatch, CheckpointNumber, CommitMark, CommitOutcome, Committable, ConnectorError, Fence,
    LastCommit, Resume, Retry, SinkCommitter, SinkMode, SinkStatus,
};
use futures::FutureExt;
use tokio::sync::{OwnedMutexGuard, watch};
use uuid::Uuid;

use self::net::Net;
use self::writers::{Writers, panicked};
use super::sink_log::{self, MERGE_BYTES_MAX, Pending, to_merge};
use super::sink_problem::{Severity, SinkProblem};
use crate::catalog::RelationId;
use crate::change::batch_bytes;
use crate::checkpoint::SinkRecord;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{Charge, MemoryAccount, MemoryKind};

mod net;
mod writers;

/// Bytes of logged changes that stay in memory, so that no prepare reads them again; less if the
/// memory limit is small.
const KEPT_BYTES_MAX: usize = if cfg!(test) { 256 } else { 128 << 20 };

/// The part of the memory limit that a sink may use for that.
const KEPT_PART: u64 = 32;

/// What becomes of a sink that is stopped.
const STOPPED: &str = "the sink is stopped and keeps its changes until ALTER SINK … RESUME";

const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// The other commit is complete when a conflict is reported: the pauses before the next try are
/// shorter by this factor.
const CONFLICT_FACTOR: u32 = 10;

/// A sink in use: locked while it writes or commits.
pub(super) type BusySink = OwnedMutexGuard<OpenSink>;

/// A sink, and whether it knows its target.
pub(super) struct OpenSink {
    sink: Box<dyn SinkCommitter>,
    opened: bool,
}

/// A sink, its pending changes, and its two phases.
pub(super) struct SinkSlot {
    pub(super) relation: RelationId,
    pub(super) name: String,
    id: Uuid,
    schema: SchemaRef,
    net: Net,
    sink: Arc<tokio::sync::Mutex<OpenSink>>,
    progress: Mutex<Progress>,
    /// True once the sink is dropped.
    dropped: watch::Sender<bool>,
}

/// How far a sink is.
#[derive(Default)]
struct Progress {
    /// Changes that the sink prepares: the log has them until a manifest names the committable.
    taken: Vec<Pending>,
    /// Changes after these, in their order.
    pending: Vec<Pending>,
    /// Number of the next changes.
    numbered: u64,
    /// Bytes that a prepare reads from the log and hands to writers.
    reading_bytes: usize,
    /// What is in memory; `None` in tests.
    charge: Option<Charge>,
    /// Bytes of logged changes that may stay in memory.
    kept_max: usize,
    /// The newest commit.
    last: LastCommit,
    /// The first checkpoint that has changes of the newest commit.
    last_first: CheckpointNumber,
    /// The fence of this process.
    fence: Fence,
    /// Prepares that failed in a row, and when the next one may be tried.
    failures: u32,
    retry_at: Duration,
    /// Why it is stopped until it is resumed or the engine starts again.
    stopped: Option<String>,
}

impl Progress {
    /// Bytes of pending changes that are in memory.
    fn kept_bytes(&self) -> usize {
        self.taken.iter().chain(&self.pending).map(Pending::kept_bytes).sum()
    }

    /// Charges what is in memory.
    fn charge(&mut self) {
        let bytes = self.kept_bytes() + self.reading_bytes;
        self.charge.iter_mut().for_each(|charge| charge.set(bytes));
    }

    /// Changes are logged as an object, and stay in memory if there is room.
    fn set_object(&mut self, number: u64, object: String) {
        let has_room = self.kept_bytes() <= self.kept_max;
        if let Some(logged) = self.pending.iter_mut().find(|it| it.number == number) {
            logged.set_object(object);
            if !has_room {
                logged.release();
            }
        }
        self.charge();
    }
}

/// What a sink brings into a manifest that has its newest changes.
pub(super) struct Logged {
    pub(super) record: SinkRecord,
    /// Objects that the manifest does not need any more.
    pub(super) garbage: Vec<String>,
    /// Why the changes are not kept.
    pub(super) problem: Option<SinkProblem>,
}

/// What a sink has made durable; visible to nobody until a manifest names the committable.
pub(super) struct Prepared {
    pub(super) slot: Arc<SinkSlot>,
    pub(super) sink: BusySink,
    /// `None` if there was nothing to commit.
    pub(super) committable: Option<Committable>,
}

impl SinkSlot {
    pub(super) fn new(
        relation: RelationId,
        name: String,
        id: Uuid,
        schema: SchemaRef,
        mode: &SinkMode,
        sink: Box<dyn SinkCommitter>,
    ) -> Self {
        let sink = Arc::new(tokio::sync::Mutex::new(OpenSink { sink, opened: false }));
        let progress = Progress { kept_max: KEPT_BYTES_MAX, ..Progress::default() };
        let (progress, dropped) = (Mutex::new(progress), watch::Sender::new(false));
        Self { relation, name, id, schema, net: Net::of(mode), sink, progress, dropped }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a manifest has of it; `fence` is that of this process.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt` if the log cannot be read.
    pub(super) async fn restore(&self, record: &SinkRecord, fence: Fence, env: &Env) -> Result<()> {
        let mut pending = Vec::new();
        for (number, object) in (0..).zip(&record.pending) {
            pending.push(Pending::restore(number, object, &self.schema, env).await?);
        }
        let mut progress = self.progress();
        progress.numbered = pending.len() as u64;
        progress.pending = pending;
        progress.charge();
        progress.last.clone_from(&record.last);
        progress.fence = fence;
        Ok(())
    }

    /// Opens the sink once; for CREATE, which tells the user what is wrong.
    ///
    /// # Errors
    /// What the connector says.
    pub(super) async fn open(&self) -> Result<SinkStatus> {
        let mut sink = Arc::clone(&self.sink).lock_owned().await;
        let resume = Resume { is_new: true, ..Resume::default() };
        caught(sink.sink.open(&resume)).await?;
        sink.opened = true;
        Ok(sink.sink.status())
    }

    /// Takes back what opening has made: the CREATE SINK has failed.
    pub(super) async fn undo_open(&self) {
        self.drop_sink();
        let mut sink = Arc::clone(&self.sink).lock_owned().await;
        if let Err(error) = caught(sink.sink.drop_target()).await {
            tracing::warn!(sink = self.name, %error, "the target of a failed sink stays");
        }
    }

    /// Opens the sink, which commits what is prepared.
    async fn reopen(&self, sink: &mut OpenSink) -> frazil_connector_api::Result<()> {
        let resume = {
            let progress = self.progress();
            Resume { is_new: false, fence: progress.fence, last: progress.last.clone() }
        };
        sink.opened = false;
        sink.sink.open(&resume).await?;
        sink.opened = true;
        if let Some(committable) = resume.last.committable() {
            self.progress().last = LastCommit::Visible(committable.mark);
        }
        Ok(())
    }

    /// The sink is dropped: nothing is tried again.
    pub(super) fn drop_sink(&self) {
        self.dropped.send_replace(true);
    }

    /// True if it could prepare at `now`: it is not at work nor stopped, and no pause after a
    /// failure is under way.
    pub(super) fn is_free(&self, now: Duration) -> bool {
        let progress = self.progress();
        now >= progress.retry_at && progress.stopped.is_none() && !self.is_busy()
    }

    /// True if the last prepare has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.progress().failures > 0
    }

    /// Tries again after an error that has stopped it; true if it was stopped.
    pub(super) fn resume(&self) -> bool {
        let mut progress = self.progress();
        (progress.failures, progress.retry_at) = (0, Duration::ZERO);
        progress.stopped.take().is_some()
    }

    /// Why it is stopped until it is resumed or the engine starts again.
    pub(super) fn stopped(&self) -> Option<String> {
        self.progress().stopped.clone()
    }

    /// True while it opens, writes or commits.
    pub(super) fn is_busy(&self) -> bool {
        self.sink.try_lock().is_err()
    }

    /// True if nothing is pending or under way, or nothing more will be committed.
    pub(super) fn is_idle(&self) -> bool {
        let progress = self.progress();
        let is_logged = !progress.taken.is_empty() || !progress.pending.is_empty();
        let is_done = !is_logged && progress.last.committable().is_none();
        (is_done || progress.stopped.is_some()) && !self.is_busy()
    }

    /// True if an error has stopped the sink.
    pub(super) fn is_stopped(&self) -> bool {
        self.progress().stopped.is_some()
    }

    /// True if changes of a checkpoint up to `through` are not known to be visible.
    pub(super) fn lacks(&self, through: CheckpointNumber) -> bool {
        let progress = self.progress();
        let is_prepared = progress.last.committable().is_some() && progress.last_first <= through;
        let mut logged = progress.taken.iter().chain(&progress.pending);
        is_prepared || logged.any(|pending| pending.first <= through)
    }

    /// True if changes are pending.
    pub(super) fn has_pending(&self) -> bool {
        !self.progress().pending.is_empty()
    }

    /// Takes the changes of checkpoint `sequence` into the log.
    ///
    /// # Errors
    /// `Unavailable` if they cannot be logged.
    pub(super) async fn log(
        &self,
        changes: Vec<ChangeBatch>,
        sequence: CheckpointNumber,
        env: &Env,
    ) -> Result<Logged> {
        let mut problem = None;
        if let Err(error) = self.take(changes, sequence) {
            let error = format!("its changes cannot be kept: {error}");
            problem = Some(SinkProblem { severity: Severity::Lost, error });
        }
        let garbage = self.merge_newest(env).await?;
        let unlogged: Vec<Pending> = {
            let progress = self.progress();
            progress.pending.iter().filter(|it| it.object.is_none()).cloned().collect()
        };
        for unlogged in unlogged {
            let changes = unlogged.changes(&self.schema, env).await?;
            let object = sink_log::write(&changes, self.relation, sequence, env).await?;
            self.progress().set_object(unlogged.number, object);
        }
        Ok(Logged { record: self.record(), garbage, problem })
    }

    /// Merges the newest changes with those before them; gives the objects that this replaces. A
    /// prepare that fails meanwhile puts others in front of them.
    async fn merge_newest(&self, env: &Env) -> Result<Vec<String>> {
        let merged = to_merge(&self.progress().pending).to_vec();
        let Some(oldest) = merged.first() else { return Ok(Vec::new()) };
        let mut changes = Vec::with_capacity(merged.len());
        for pending in &merged {
            changes.push(pending.changes(&self.schema, env).await?);
        }
        let changes = self.net.of_changes(&self.schema, changes)?;
        let mut progress = self.progress();
        let before_all = progress.pending.len() - merged.len();
        progress.pending.truncate(before_all);
        if changes.num_rows() > 0 {
            let first = merged.iter().map(|it| it.first).min().unwrap_or_default();
            progress.pending.push(Pending::new(oldest.number, changes, first));
        }
        progress.charge();
        Ok(merged.into_iter().filter_map(|it| it.object).collect())
    }

    /// Adds changes to those that are pending, net, in batches that are not too large.
    fn take(&self, changes: Vec<ChangeBatch>, first: CheckpointNumber) -> Result<()> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut groups = Vec::new();
        for changes in changes {
            let size = batch_bytes(changes.rows());
            if bytes + size > MERGE_BYTES_MAX && !group.is_empty() {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
            }
            bytes += size;
            group.push(changes);
        }
        groups.push(group);
        for group in groups {
            let changes = self.net.of_changes(&self.schema, group)?;
            if changes.num_rows() > 0 {
                let mut progress = self.progress();
                let number = progress.numbered;
                progress.numbered += 1;
                progress.pending.push(Pending::new(number, changes, first));
                progress.charge();
            }
        }
        Ok(())
    }

    /// Locks the sink to prepare all that is logged; `None` if it is at work, stopped or has
    /// nothing to do. Never called while a checkpoint logs changes.
    pub(super) fn begin(&self) -> Option<BusySink> {
        let mut progress = self.progress();
        if progress.pending.is_empty() || progress.stopped.is_some() {
            return None;
        }
        let sink = Arc::clone(&self.sink).try_lock_owned().ok()?;
        progress.taken = std::mem::take(&mut progress.pending);
        Some(sink)
    }

    /// Makes what was begun durable, beside all else.
    pub(super) async fn prepare(
        self: Arc<Self>,
        mut sink: BusySink,
        mark: CommitMark,
        env: &Env,
    ) -> std::result::Result<Prepared, SinkProblem> {
        self.progress().fence = mark.fence;
        let written = caught(self.write(&mut sink, mark, env)).await;
        self.set_reading(0);
        match written {
            Ok(committable) => {
                env.reach("sink.prepared");
                Ok(Prepared { slot: self, sink, committable })
            }
            Err(error) => {
                sink.opened = false;
                let mut progress = self.progress();
                let later = std::mem::take(&mut progress.pending);
                progress.pending = std::mem::take(&mut progress.taken);
                progress.pending.extend(later);
                drop(progress);
                Err(self.note(&error, env.elapsed()))
            }
        }
    }

    /// The next manifest names what is prepared; gives the objects of the log that it replaces.
    pub(super) fn name(&self, committable: Option<&Committable>) -> Vec<String> {
        let mut progress = self.progress();
        let taken = std::mem::take(&mut progress.taken);
        progress.charge();
        (progress.failures, progress.retry_at) = (0, Duration::ZERO);
        if let Some(committable) = committable {
            progress.last = LastCommit::Prepared(committable.clone());
            progress.last_first = taken.iter().map(|it| it.first).min().unwrap_or_default();
        }
        taken.into_iter().filter_map(|pending| pending.object).collect()
    }

    /// Notes an error of the sink: it is stopped, or has a pause that grows.
    fn note(&self, error: &ConnectorError, now: Duration) -> SinkProblem {
        let text = described(error);
        let mut progress = self.progress();
        if error.retry == Retry::Never {
            let text = format!("{text}; {STOPPED}");
            progress.stopped = Some(text.clone());
            return SinkProblem { severity: Severity::Stopped, error: text };
        }
        progress.failures += 1;
        progress.retry_at = now + pause(progress.failures);
        SinkProblem { severity: Severity::Retried { attempts: progress.failures }, error: text }
    }

    async fn write(
        &self,
        sink: &mut OpenSink,
        mark: CommitMark,
        env: &Env,
    ) -> frazil_connector_api::Result<Option<Committable>> {
        // Opening commits what is prepared: no committable is ever put in the place of another.
        if !sink.opened || self.progress().last.committable().is_some() {
            self.reopen(sink).await?;
        }
        let taken = self.progress().taken.clone();
        // Each of them is net already. What is too large for one batch is written in its
        // order, so that rows come and go that are in none of the snapshots.
        let groups = match taken.iter().map(|pending| pending.bytes).sum::<usize>() {
            bytes if bytes > MERGE_BYTES_MAX => taken.chunks(1),
            _ => taken.chunks(taken.len().max(1)),
        };
        let bytes = taken.iter().map(|pending| pending.bytes).sum();
        let mut writers = Writers::new(&mut *sink.sink, self.net.key(), bytes)?;
        let written = self.write_groups(groups, &mut writers, env).await;
        self.set_reading(0);
        let (fragments, finished) = match written {
            Ok(()) => writers.finish().await,
            Err(error) => {
                writers.abort().await;
                (Vec::new(), Err(error))
            }
        };
        let merged = match finished {
            Ok(()) => sink.sink.merge(mark, fragments.clone()).await,
            Err(error) => Err(error),
        };
        if merged.is_err()
            && let Err(error) = sink.sink.abort(fragments).await
        {
            tracing::warn!(sink = self.name, %error, "files of a failed prepare stay");
        }
        merged
    }

    /// Has writers encode the sum of each group.
    async fn write_groups(
        &self,
        groups: std::slice::Chunks<'_, Pending>,
        writers: &mut Writers<'_>,
        env: &Env,
    ) -> frazil_connector_api::Result<()> {
        for group in groups {
            let changes = self.net_changes(group, env).await.map_err(|error| match error.kind {
                ErrorKind::Unavailable => ConnectorError::unavailable(error.to_string()),
                _ => ConnectorError::internal(error.to_string()),
            })?;
            if changes.num_rows() > 0 {
                self.set_reading(batch_bytes(changes.rows()) + writers.copied_bytes(&changes));
                writers.write(changes).await?;
            }
        }
        Ok(())
    }

    /// The sum of pending changes, which is in memory until the next call or the end of the
    /// prepare. The changes themselves are in the log.
    async fn net_changes(&self, group: &[Pending], env: &Env) -> Result<ChangeBatch> {
        let read = group.iter().map(|pending| pending.bytes - pending.kept_bytes());
        self.set_reading(read.sum());
        let mut changes = Vec::with_capacity(group.len());
        for pending in group {
            changes.push(pending.changes(&self.schema, env).await?);
        }
        self.progress().taken.iter_mut().for_each(Pending::release);
        self.net.of_changes(&self.schema, changes)
    }

    /// What it holds is charged to an account from now on.
    pub(super) fn charge_to(&self, memory: &Arc<MemoryAccount>) {
        let mut progress = self.progress();
        progress.charge = Some(memory.charge(Some(self.relation), MemoryKind::SinkChanges));
        let part = usize::try_from(memory.limit() / KEPT_PART).unwrap_or(usize::MAX);
        progress.kept_max = part.min(KEPT_BYTES_MAX);
        progress.charge();
    }

    /// So many bytes are in memory beside what is kept.
    fn set_reading(&self, bytes: usize) {
        let mut progress = self.progress();
        progress.reading_bytes = bytes;
        progress.charge();
    }

    /// What a manifest says of it now.
    pub(super) fn record(&self) -> SinkRecord {
        let progress = self.progress();
        let logged = progress.taken.iter().chain(&progress.pending);
        SinkRecord {
            id: self.id,
            last: progress.last.clone(),
            pending: logged.filter_map(|it| it.object.clone()).collect(),
        }
    }

    /// Second phase: tries until the changes are visible, or the sink is dropped, which gives
    /// `None`. `report` gets each failure.
    ///
    /// | outcome | reaction |
    /// |---|---|
    /// | `Conflict`: another writer was faster | the same committable again, after a short pause |
    /// | `Unknown`: no answer | the same; the sink looks first; the pause grows |
    /// | an error that may heal | the same |
    /// | another error | the sink is stopped; the manifest keeps the committable |
    ///
    /// # Errors
    /// What will never succeed; the sink is stopped then.
    pub(super) async fn commit(
        &self,
        mut busy: BusySink,
        committable: &Committable,
        env: &Env,
        report: impl Fn(u32, String),
    ) -> Result<Option<(CommitOutcome, SinkStatus)>> {
        let mut dropped = self.dropped.subscribe();
        let mut attempts = 0;
        while !*dropped.borrow() {
            let outcome = caught(self.try_commit(&mut busy, committable)).await;
            let outcome = match env.fails("sink.reply_lost") {
                true => Ok(CommitOutcome::Unknown { reason: "its reply was lost".to_string() }),
                false => outcome,
            };
            attempts += 1;
            let (reason, pause) = match outcome {
                Ok(outcome @ CommitOutcome::Committed { .. }) => {
                    env.reach("sink.committed");
                    self.progress().last = LastCommit::Visible(committable.mark);
                    if let Err(error) = caught(busy.sink.maintain()).await {
                        tracing::warn!(sink = self.name, %error, "replaced files stay");
                    }
                    return Ok(Some((outcome, busy.sink.status())));
                }
                Ok(CommitOutcome::Conflict { reason }) => {
                    (reason, pause(attempts) / CONFLICT_FACTOR)
                }
                Ok(CommitOutcome::Unknown { reason }) => (
                    format!("it is not known whether the commit was made: {reason}"),
                    pause(attempts),
                ),
                // An error that may heal does not cost the sink what it knows of its target.
                Err(error) if error.retry == Retry::Never => {
                    busy.opened = false;
                    let problem = self.note(&error, env.elapsed());
                    return Err(Error::new(ErrorKind::JobFailed, problem.error));
                }
                Err(error) => (error.to_string(), pause(attempts)),
            };
            tracing::warn!(sink = self.name, reason, attempts, "not committed yet, again");
            report(attempts, reason);
            tokio::select! {
                _ = dropped.wait_for(|dropped| *dropped) => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(None)
    }

    async fn try_commit(
        &self,
        sink: &mut OpenSink,
        committable: &Committable,
    ) -> frazil_connector_api::Result<CommitOutcome> {
        if !sink.opened {
            self.reopen(sink).await?;
        }
        sink.sink.commit(committable).await
    }

    /// Opens the sink in the background of a start, and commits what the manifest of the last
    /// process left. What may heal is tried again by the next prepare.
    ///
    /// # Errors
    /// As [`SinkSlot::commit`].
    pub(super) async fn recover(
        &self,
        env: &Env,
        report: impl Fn(u32, String),
    ) -> Result<Option<SinkStatus>> {
        let mut busy = Arc::clone(&self.sink).lock_owned().await;
        // Under the lock: a prepare that was faster has committed it, and may have made the next.
        let committable = self.progress().last.committable().cloned();
        if let Some(committable) = committable {
            let committed = self.commit(busy, &committable, env, report).await?;
            return Ok(committed.map(|(_, status)| status));
        }
        match caught(self.reopen(&mut busy)).await {
            Ok(()) => Ok(Some(busy.sink.status())),
            Err(error) => match self.note(&error, env.elapsed()) {
                SinkProblem { severity: Severity::Retried { attempts }, error } => {
                    report(attempts, error);
                    Ok(None)
                }
                problem => Err(Error::new(ErrorKind::JobFailed, problem.error)),
            },
        }
    }
}

/// What a sink does, with a panic as an error: it must not end the engine.
async fn caught<T>(
    work: impl Future<Output = frazil_connector_api::Result<T>>,
) -> frazil_connector_api::Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Err(panicked(&*panic)),
    }
}

/// An error with its hint, for SHOW JOBS.
fn described(error: &ConnectorError) -> String {
    match &error.hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// The pause after a number of failures in a row.
fn pause(failures: u32) -> Duration {
    (PAUSE * 2_u32.pow(failures.min(7))).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests;
