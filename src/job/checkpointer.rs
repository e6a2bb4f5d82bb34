//! [`Checkpointer`]: turns what workers and sinks prepared into the next manifest.

mod acknowledger;
mod compaction;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frazil_connector_api::{ChangeBatch, CheckpointNumber, CommitMark, Committable};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::acknowledger::acknowledge;
use self::compaction::Compactor;
use super::applying::Ddl;
use super::message::Reply;
use super::sink_problem::{Severity, SinkProblem};
use super::sink_slot::{BusySink, Prepared, SinkSlot};
use super::state::EngineState;
use crate::catalog::RelationId;
use crate::checkpoint::{
    Manifest, ManifestBody, Manifests, PipelineRecord, StoredCatalog, removable,
};
use crate::dataflow::SourceOffsets;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::state::StoredSegments;

/// How long the end of the engine waits for old objects to be removed.
const SWEEP_WAIT: Duration = Duration::from_secs(5);

/// How long objects that no manifest needs are gathered, to be removed by one request.
const SWEEP_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 500 });

/// What workers wrote for a checkpoint, and who waits for it.
pub(super) struct Parts {
    pub(super) epoch: u64,
    pub(super) now_ms: i64,
    pub(super) stored: Vec<StoredSegments>,
    pub(super) offsets: SourceOffsets,
    pub(super) catalog: Arc<StoredCatalog>,
    pub(super) next_relation: RelationId,
    pub(super) sink_changes: BTreeMap<RelationId, Vec<ChangeBatch>>,
    pub(super) acks: Vec<Reply<()>>,
    pub(super) created: Vec<Ddl>,
}

/// A durable manifest: whom to answer, what to commit.
#[derive(Default)]
pub(super) struct WrittenManifest {
    /// It has a checkpoint's changes.
    pub(super) is_cut: bool,
    /// The manifest's sequence.
    pub(super) checkpoint: CheckpointNumber,
    pub(super) acks: Vec<Reply<()>>,
    pub(super) created: Vec<Ddl>,
    pub(super) commits: Vec<(Arc<SinkSlot>, BusySink, Committable)>,
    /// Sinks that had nothing to commit.
    pub(super) settled: Vec<RelationId>,
}

/// Turns what workers and sinks prepared into the next manifest.
#[derive(Clone)]
pub(super) struct Checkpointer {
    env: Env,
    manifests: Arc<Manifests>,
    /// The newest durable manifest.
    manifest: Arc<Mutex<Arc<Manifest>>>,
    /// Failures since the manifest that is written was begun; changed while `manifest` is locked.
    failed_lately: Arc<Mutex<BTreeMap<RelationId, Error>>>,
    compactor: Compactor,
    /// Objects of dropped relations, which no manifest needs from the next one on.
    dropped: Arc<Mutex<Vec<String>>>,
    /// Objects that no manifest needs, until they are removed together.
    unneeded: Arc<Mutex<Vec<String>>>,
    /// Removals of these that are under way.
    sweeps: Arc<Mutex<JoinSet<()>>>,
    /// Told when the engine ends: the sweep that gathers does not wait for more.
    ending: Arc<Notify>,
    /// True if a pipeline's record is newer than the durable manifest.
    has_record: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Begins with the newest durable manifest.
    pub(super) fn new(
        env: Env,
        manifests: Manifests,
        manifest: Manifest,
        state: &Arc<EngineState>,
    ) -> Self {
        let manifest = Arc::new(Mutex::new(Arc::new(manifest)));
        acknowledge(&manifest, state, &env);
        Self {
            compactor: Compactor::new(env.clone()),
            env,
            manifests: Arc::new(manifests),
            manifest,
            failed_lately: Arc::default(),
            dropped: Arc::default(),
            unneeded: Arc::default(),
            sweeps: Arc::default(),
            ending: Arc::default(),
            has_record: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Manifest>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed_lately(&self) -> MutexGuard<'_, BTreeMap<RelationId, Error>> {
        self.failed_lately.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self) -> MutexGuard<'_, Vec<String>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest durable manifest.
    pub(super) fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.lock())
    }

    /// The sequence of the newest durable manifest.
    pub(super) fn sequence(&self) -> CheckpointNumber {
        self.lock().sequence
    }

    /// The next manifest says that a relation has failed.
    pub(super) fn fail(&self, relation: RelationId, error: Error) {
        let mut manifest = self.lock();
        self.failed_lately().insert(relation, error.clone());
        Arc::make_mut(&mut manifest).failed.insert(relation, error);
    }

    /// True if the next manifest says that a relation has failed.
    pub(super) fn has_failed(&self, relation: RelationId) -> bool {
        self.lock().failed.contains_key(&relation)
    }

    /// The next manifest has nothing of a dropped relation.
    pub(super) fn forget(&self, relation: RelationId) {
        let mut manifest = self.lock();
        self.failed_lately().remove(&relation);
        let before = Arc::clone(&manifest);
        let next = Arc::make_mut(&mut manifest);
        let catalog = next.catalog.edit();
        catalog.statements.retain(|statement| statement.id != relation);
        catalog.fragments.remove(&relation);
        next.failed.remove(&relation);
        next.failed_at.remove(&relation);
        next.state.remove(&relation);
        next.offsets.remove(&relation);
        next.sinks.remove(&relation);
        next.pipelines.remove(&relation);
        self.dropped().extend(next.garbage(&before, Vec::new()));
    }

    /// What the next manifest says of a pipeline; nothing if it has been dropped.
    pub(super) fn set_pipeline(&self, relation: RelationId, record: PipelineRecord) {
        let mut manifest = self.lock();
        if manifest.catalog.statements.iter().any(|statement| statement.id == relation) {
            Arc::make_mut(&mut manifest).pipelines.insert(relation, record);
            self.has_record.store(true, Ordering::SeqCst);
        }
    }

    /// True if a pipeline's record is newer than the durable manifest.
    pub(super) fn has_record(&self) -> bool {
        self.has_record.load(Ordering::SeqCst)
    }

    /// Puts the next manifest: with what a checkpoint has cut, if there is one, and with what sinks
    /// have prepared, which is committed then.
    ///
    /// # Errors
    /// `Fenced` if another process has taken over; `Unavailable`.
    pub(super) async fn write(
        &self,
        cut: Option<Parts>,
        prepared: Vec<Prepared>,
        slots: Vec<Arc<SinkSlot>>,
        state: &EngineState,
    ) -> Result<WrittenManifest> {
        self.has_record.store(false, Ordering::SeqCst);
        let before = {
            let manifest = self.lock();
            self.failed_lately().clear();
            Arc::clone(&manifest)
        };
        let mut next = Manifest::clone(&before);
        let mut body = ManifestBody::after(&before);
        let mut garbage: Vec<String> = Vec::new();
        let mut written = WrittenManifest { is_cut: cut.is_some(), ..WrittenManifest::default() };
        for Prepared { slot, sink, committable } in prepared {
            garbage.extend(slot.name(committable.as_ref()));
            next.sinks.insert(slot.relation, slot.record());
            match committable {
                Some(committable) => written.commits.push((slot, sink, committable)),
                None => {
                    state.set_problem(slot.relation, None);
                    written.settled.push(slot.relation);
                }
            }
        }
        if let Some(parts) = cut {
            (next.epoch, next.now_ms) = (parts.epoch, parts.now_ms);
            next.catalog.set(parts.catalog);
            next.next_relation = parts.next_relation;
            for ddl in &parts.created {
                resume(&mut next, ddl.resumed());
            }
            // A failed job stays where it was before it failed.
            for relation in next.failed.keys() {
                next.failed_at.entry(*relation).or_insert(before.epoch);
            }
            let failed: BTreeSet<_> = next.failed.keys().copied().collect();
            let is_sound = |relation: &RelationId| !failed.contains(relation);
            let segments = parts.stored.into_iter().flat_map(|stored| body.place(stored));
            let (segments, useless): (Vec<_>, Vec<_>) =
                segments.partition(|segment| is_sound(&segment.relation));
            next.add_segments(segments);
            garbage.extend(useless.into_iter().map(|segment| segment.object));
            let offsets = parts.offsets.into_iter();
            next.offsets.extend(offsets.filter(|(relation, _)| is_sound(relation)));
            (written.acks, written.created) = (parts.acks, parts.created);
            // Of an epoch in which its input failed a sink may have a part: it takes none of it.
            let sound = slots.into_iter().filter(|slot| is_sound(&slot.relation)).collect();
            garbage.extend(self.log(parts.sink_changes, sound, &mut next, state).await?);
        }
        garbage.extend(self.compactor.name_merged(&mut next, &mut body));
        garbage.append(&mut self.dropped());
        self.env.reach("checkpoint.gathered");
        self.manifests.append(&mut next, body).await?;
        self.env.reach("checkpoint.manifest_written");
        let garbage = next.garbage(&before, garbage);
        written.checkpoint = next.sequence;
        let next = Arc::new(next);
        self.publish(Arc::clone(&next));
        self.compactor.start(&next, &before);
        self.sweep(&next, garbage);
        Ok(written)
    }

    /// Logs the changes of all sinks, one beside the other; gives the objects that their logs do
    /// not need any more. A sink whose changes are lost has failed.
    async fn log(
        &self,
        mut changes: BTreeMap<RelationId, Vec<ChangeBatch>>,
        slots: Vec<Arc<SinkSlot>>,
        next: &mut Manifest,
        state: &EngineState,
    ) -> Result<Vec<String>> {
        let sequence = next.sequence.next();
        let logs = slots.into_iter().map(|slot| {
            let changes = changes.remove(&slot.relation).unwrap_or_default();
            let (logging, env) = (Arc::clone(&slot), self.env.clone());
            // A task per sink: one works beside the other, and a panic is that sink's alone.
            let work = async move { logging.log(changes, sequence, &env).await };
            let work = tokio::spawn(work);
            async move { (slot, work.await) }
        });
        let mut garbage = Vec::new();
        for (slot, logged) in futures::future::join_all(logs.collect::<Vec<_>>()).await {
            let problem = match logged {
                Ok(logged) => {
                    let logged = logged?;
                    next.sinks.insert(slot.relation, logged.record);
                    garbage.extend(logged.garbage);
                    logged.problem
                }
                Err(panic) => {
                    let error = format!("its changes cannot be kept: {panic}");
                    Some(SinkProblem { severity: Severity::Lost, error })
                }
            };
            if let Some(SinkProblem { error, .. }) = problem {
                tracing::error!(sink = slot.name, error, "sink has lost changes");
                let error = Error::new(ErrorKind::JobFailed, error);
                next.failed.insert(slot.relation, error.clone());
                // What is left belongs to no checkpoint.
                next.failed_at.insert(slot.relation, u64::MAX);
                // The coordinator publishes what starts it again with the manifest.
                state.set_failure(slot.relation, error, None);
            }
        }
        Ok(garbage)
    }

    /// What tells a commit of all changes up to the newest durable manifest from others.
    pub(super) fn next_mark(&self) -> CommitMark {
        let (checkpoint, fence) = (self.sequence(), self.manifests.fence());
        CommitMark { checkpoint, fence, id: self.env.random_id() }
    }

    /// Removes objects that no manifest names.
    pub(super) fn remove(&self, objects: Vec<String>) {
        self.sweep(&self.manifest(), objects);
    }

    /// Removes what a durable manifest does not need, beside all else.
    fn sweep(&self, manifest: &Manifest, garbage: Vec<String>) {
        let objects = removable(manifest, garbage);
        if objects.is_empty() {
            return;
        }
        {
            let mut unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
            let is_awaited = !unneeded.is_empty();
            unneeded.extend(objects);
            if is_awaited {
                return;
            }
        }
        let this = self.clone();
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        while sweeps.try_join_next().is_some() {}
        sweeps.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_PAUSE) => {}
                () = this.ending.notified() => {}
            }
            this.remove_unneeded().await;
        });
    }

    async fn remove_unneeded(&self) {
        let objects = {
            let mut unneeded = self.unneeded.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *unneeded)
        };
        self.env.reach("checkpoint.sweeping");
        self.env.remove(objects).await;
    }

    /// Waits until old objects are removed; what is left after a while is only a waste of space.
    pub(super) async fn finish(&self) {
        self.ending.notify_one();
        let sweeps = {
            let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *sweeps)
        };
        let _ = tokio::time::timeout(SWEEP_WAIT, sweeps.join_all()).await;
    }

    /// Makes a manifest the newest, keeping what was said of it while it was written.
    fn publish(&self, next: Arc<Manifest>) {
        let mut manifest = self.lock();
        let said = std::mem::replace(&mut *manifest, next);
        let mut failed = self.failed_lately();
        if failed.is_empty() && manifest.pipelines == said.pipelines {
            return;
        }
        let manifest = Arc::make_mut(&mut manifest);
        // The others are in it, but for those that are resumed.
        manifest.failed.append(&mut failed);
        manifest.pipelines = said.pipelines.clone();
    }
}

/// Resumed relations have not failed any more; those that are rebuilt have nothing of their former
/// state. The value tells which.
fn resume(manifest: &mut Manifest, resumed: &BTreeMap<RelationId, bool>) {
    for (relation, is_rebuilt) in resumed {
        manifest.failed.remove(relation);
        manifest.failed_at.remove(relation);
        if *is_rebuilt {
            manifest.state.remove(relation);
        }
    }
}
