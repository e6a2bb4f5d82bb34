//! [`EngineState`]: what the coordinator publishes and sessions read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use frazil_connector_api::SinkStatus;

use self::worker_reports::WorkerReports;
pub use self::worker_reports::WorkerSilence;
use super::flushes::Readers;
use super::recent_writes::RecentWrites;
use super::{CatchUp, JobKind, JobState, JobStatus, PipelineRun, PipelineRunState};
use crate::catalog::{Catalog, Definition, Relation, RelationId};
use crate::dataflow::{CatchUpProgress, FieldNotice, FragmentProgress};
use crate::error::Error;
use crate::state::{MemoryAccount, SnapshotStore};

mod worker_reports;

/// Finished runs of pipelines that are remembered.
const RUNS_KEPT: usize = 1000;

/// What the coordinator publishes and sessions read.
#[derive(Debug)]
pub(super) struct EngineState {
    pub(super) snapshots: Arc<SnapshotStore>,
    pub(super) memory: Arc<MemoryAccount>,
    /// Keys of own tables written lately.
    pub(super) writes: Arc<RecentWrites>,
    catalog: RwLock<Arc<Catalog>>,
    /// The catalog with what is being created, over which statements are checked.
    ddl_catalog: RwLock<Arc<Catalog>>,
    /// Counts changes of what is being started.
    starting: tokio::sync::watch::Sender<u64>,
    figures: Mutex<BTreeMap<RelationId, Figures>>,
    runs: Mutex<Vec<PipelineRun>>,
    epoch: AtomicU64,
    pub(super) workers: WorkerReports,
    finished: AtomicBool,
    fatal: tokio::sync::watch::Sender<Option<Error>>,
}

/// Figures of one job, summed over workers.
#[derive(Debug, Clone, Default)]
struct Figures {
    rows_in: u64,
    bytes_in: u64,
    bad_messages: u64,
    /// State by operator, by worker.
    operator_bytes: BTreeMap<usize, Vec<(String, u64)>>,
    /// Of the sink.
    problem: Option<(u32, String)>,
    /// Of sources, by worker.
    source_problems: BTreeMap<usize, (u32, String)>,
    /// How messages differ from the declared columns, by worker.
    field_notices: BTreeMap<usize, Vec<FieldNotice>>,
    failure: Option<Failure>,
    ended: BTreeSet<usize>,
    sink: Option<SinkStatus>,
    /// While it is created or resumed.
    starting: Option<Starting>,
}

/// Why a job has failed.
#[derive(Debug, Clone)]
struct Failure {
    error: Error,
    /// The statement that starts it again, unless none does.
    resumed_by: Option<String>,
}

/// A relation that is created or resumed: it takes no part in epochs yet, or is not durable.
#[derive(Debug, Clone)]
struct Starting {
    relation: Arc<Relation>,
    /// True for CREATE: sessions do not see it.
    is_new: bool,
    /// How far it is, by worker.
    progress: BTreeMap<usize, CatchUpProgress>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EngineState {
    pub(super) fn new(snapshots: Arc<SnapshotStore>, memory: Arc<MemoryAccount>) -> Self {
        Self {
            snapshots,
            memory,
            writes: Arc::default(),
            catalog: RwLock::default(),
            ddl_catalog: RwLock::default(),
            starting: tokio::sync::watch::Sender::new(0),
            figures: Mutex::default(),
            runs: Mutex::default(),
            epoch: AtomicU64::new(0),
            workers: WorkerReports::default(),
            finished: AtomicBool::new(false),
            fatal: tokio::sync::watch::Sender::new(None),
        }
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn ddl_catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.ddl_catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_ddl_catalog(&self, catalog: Arc<Catalog>) {
        *self.ddl_catalog.write().unwrap_or_else(PoisonError::into_inner) = catalog;
    }

    /// Relations begin to catch up; their former failures are over.
    pub(super) fn begin_starting(&self, relations: &[Arc<Relation>], is_new: bool) {
        for relation in relations {
            let relation = Arc::clone(relation);
            self.change(relation.id, |job| {
                job.failure = None;
                job.field_notices.clear();
                job.ended.clear();
                job.starting = Some(Starting { relation, is_new, progress: BTreeMap::new() });
            });
        }
        self.starting.send_modify(|count| *count += 1);
    }

    /// Relations are up to date and durable, or are not started.
    pub(super) fn end_starting(&self, relations: &[RelationId]) {
        for relation in relations {
            if let Some(job) = lock(&self.figures).get_mut(relation) {
                job.starting = None;
            }
        }
        self.starting.send_modify(|count| *count += 1);
    }

    /// Relations that are created or resumed.
    pub(super) fn starting(&self) -> BTreeSet<RelationId> {
        let figures = lock(&self.figures);
        let starting = figures.iter().filter(|(_, job)| job.starting.is_some());
        starting.map(|(relation, _)| *relation).collect()
    }

    pub(super) fn is_starting(&self, relation: RelationId) -> bool {
        lock(&self.figures).get(&relation).is_some_and(|job| job.starting.is_some())
    }

    /// Names of relations that are created.
    pub(super) fn new_names(&self) -> Vec<String> {
        let figures = lock(&self.figures);
        let starting = figures.values().filter_map(|job| job.starting.as_ref());
        starting.filter(|it| it.is_new).map(|it| it.relation.name.clone()).collect()
    }

    /// Sees each change of [`EngineState::starting`] from now on.
    pub(super) fn starting_changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.starting.subscribe()
    }

    pub(super) fn set_catalog(&self, catalog: Catalog) {
        // A CREATE that is being checked has the next id.
        let known = self.ddl_catalog();
        let is_known = |id: &RelationId| known.by_id(*id).is_some() || *id >= known.next_id();
        lock(&self.figures).retain(|id, job| is_known(id) || job.starting.is_some());
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// All workers have finished `epoch`: reads see it.
    pub(super) fn finish_epoch(&self, epoch: u64) {
        self.snapshots.finish(epoch);
        self.epoch.store(epoch, Ordering::SeqCst);
        self.writes.finish(epoch);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    pub(super) fn set_finished(&self, finished: bool) {
        self.finished.store(finished, Ordering::SeqCst);
    }

    /// The engine cannot go on.
    pub(super) fn stop_with(&self, error: Error) {
        tracing::error!(%error, "the engine stops");
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            if first {
                *fatal = Some(error);
            }
            first
        });
    }

    pub(super) fn fatal(&self) -> tokio::sync::watch::Receiver<Option<Error>> {
        self.fatal.subscribe()
    }

    pub(super) fn add_progress(&self, worker: usize, progress: Vec<FragmentProgress>) {
        let mut figures = lock(&self.figures);
        for fragment in progress {
            let job = figures.entry(fragment.relation).or_default();
            job.rows_in += fragment.rows_in;
            job.bytes_in += fragment.bytes_in;
            job.bad_messages += fragment.bad_messages;
            job.operator_bytes.insert(worker, fragment.operator_bytes);
            if let (Some(starting), Some(progress)) = (&mut job.starting, fragment.catching_up) {
                starting.progress.insert(worker, progress);
            }
        }
    }

    fn change(&self, relation: RelationId, change: impl FnOnce(&mut Figures)) {
        change(lock(&self.figures).entry(relation).or_default());
    }

    pub(super) fn set_problem(&self, relation: RelationId, problem: Option<(u32, String)>) {
        self.change(relation, |job| job.problem = problem);
    }

    /// What a sink meets that tries again.
    pub(super) fn problem(&self, relation: RelationId) -> Option<String> {
        let figures = lock(&self.figures);
        let (attempts, error) = figures.get(&relation)?.problem.as_ref()?;
        Some(format!("{error} (tries: {attempts})"))
    }

    pub(super) fn set_source_problem(
        &self,
        relation: RelationId,
        worker: usize,
        problem: Option<(u32, String)>,
    ) {
        self.change(relation, |job| match problem {
            Some(problem) => _ = job.source_problems.insert(worker, problem),
            None => _ = job.source_problems.remove(&worker),
        });
    }

    pub(super) fn set_field_notices(
        &self,
        relation: RelationId,
        worker: usize,
        notices: Vec<FieldNotice>,
    ) {
        self.change(relation, |job| _ = job.field_notices.insert(worker, notices));
    }

    /// What a flush waits for among the readers of a relation.
    pub(super) fn readers(&self, id: RelationId) -> Readers {
        let catalog = self.catalog();
        let Some(relation) = catalog.by_id(id) else { return Readers::Gone };
        let figures = lock(&self.figures);
        let Some(job) = figures.get(&id) else { return Readers::Reading };
        match job.source_problems.values().next() {
            // What is resumed reads nothing before it takes part in epochs.
            _ if job.failure.is_some() || job.starting.is_some() => Readers::Gone,
            Some((attempts, problem)) => {
                let reason = format!("\"{}\" cannot read its source: {problem}", relation.name);
                Readers::OutOfReach(*attempts, reason)
            }
            None => Readers::Reading,
        }
    }

    /// A job has failed; `resumed_by`: the statement that starts it again, unless none does.
    pub(super) fn set_failure(
        &self,
        relation: RelationId,
        error: Error,
        resumed_by: Option<String>,
    ) {
        self.change(relation, |job| job.failure = Some(Failure { error, resumed_by }));
    }

    /// Another statement starts a failed job again, or none.
    pub(super) fn set_resumed_by(&self, relation: RelationId, resumed_by: Option<String>) {
        let mut figures = lock(&self.figures);
        if let Some(failure) = figures.get_mut(&relation).and_then(|job| job.failure.as_mut()) {
            failure.resumed_by = resumed_by;
        }
    }

    /// Jobs that have failed.
    pub(super) fn failed(&self) -> Vec<RelationId> {
        let figures = lock(&self.figures);
        let failed = figures.iter().filter(|(_, job)| job.failure.is_some());
        failed.map(|(relation, _)| *relation).collect()
    }

    pub(super) fn clear_failure(&self, relation: RelationId) {
        self.change(relation, |job| job.failure = None);
    }

    /// Relations whose rows cannot be read: those that failed with their error, and those that are
    /// started again.
    pub(super) fn unreadable(&self) -> Vec<(RelationId, Option<Error>)> {
        let figures = lock(&self.figures);
        let unreadable = figures.iter().filter_map(|(relation, job)| match &job.starting {
            Some(_) => Some((*relation, None)),
            None => Some((*relation, Some(job.error()?.clone()))),
        });
        unreadable.collect()
    }

    pub(super) fn failure(&self, relation: RelationId) -> Option<Error> {
        lock(&self.figures).get(&relation)?.error().cloned()
    }

    /// The statement that starts a failed job again, unless none does.
    pub(super) fn resumed_by(&self, relation: RelationId) -> Option<String> {
        lock(&self.figures).get(&relation)?.failure.as_ref()?.resumed_by.clone()
    }

    pub(super) fn set_ended(&self, relation: RelationId, worker: usize) {
        self.change(relation, |job| {
            job.ended.insert(worker);
        });
    }

    /// True if the bounded sources of a job have ended on all workers.
    pub(super) fn has_ended(&self, relation: RelationId, workers: usize) -> bool {
        lock(&self.figures).get(&relation).is_some_and(|job| job.ended.len() >= workers)
    }

    /// True if every relation that reads a source has read it to its end, or has failed.
    pub(super) fn have_sources_ended(&self, catalog: &Catalog, workers: usize) -> bool {
        let mut reading = catalog.iter().filter(|relation| reads_outside(catalog, relation));
        reading.all(|relation| {
            self.has_ended(relation.id, workers) || self.failure(relation.id).is_some()
        })
    }

    pub(super) fn set_sink(&self, relation: RelationId, status: SinkStatus) {
        self.change(relation, |job| job.sink = Some(status));
    }

    /// Sinks that write into the target at a location.
    pub(super) fn sinks_at(&self, location: &str) -> Vec<Arc<Relation>> {
        let catalog = self.catalog();
        let there = |job: &Figures| job.sink.as_ref().is_some_and(|it| it.location == location);
        let figures = lock(&self.figures);
        let sinks = figures.iter().filter(|(_, job)| there(job));
        sinks.filter_map(|(id, _)| catalog.by_id(*id).cloned()).collect()
    }

    /// Adds or updates a run.
    pub(super) fn set_run(&self, run: PipelineRun) {
        let mut runs = lock(&self.runs);
        match runs.iter_mut().find(|old| old.pipeline == run.pipeline && old.run == run.run) {
            Some(old) => *old = run,
            None => runs.push(run),
        }
        let surplus = runs.len().saturating_sub(RUNS_KEPT);
        runs.drain(..surplus);
    }

    /// Runs, newest first; one under way shows what its sink meets.
    pub(super) fn runs(&self) -> Vec<PipelineRun> {
        let catalog = self.catalog();
        let problem = |pipeline: &str| {
            let id = catalog.get(pipeline)?.id;
            lock(&self.figures).get(&id)?.problem.clone()
        };
        let mut runs: Vec<PipelineRun> = lock(&self.runs).iter().rev().cloned().collect();
        for run in runs.iter_mut().filter(|run| run.state == PipelineRunState::Running) {
            if let Some((attempts, error)) = problem(&run.pipeline) {
                run.state = PipelineRunState::Retrying { attempts, error };
            }
        }
        runs
    }

    pub(super) fn jobs(&self, workers: usize) -> Vec<JobStatus> {
        let catalog = self.catalog();
        let snapshots = self.snapshots.read();
        let figures = lock(&self.figures);
        let mut jobs = Vec::new();
        let new = figures.values().filter_map(|job| job.starting.as_ref());
        let new = new.filter(|starting| starting.is_new).map(|starting| &starting.relation);
        let mut relations: Vec<_> = catalog.iter().chain(new).collect();
        relations.sort_by(|one, other| one.name.cmp(&other.name));
        relations.dedup_by_key(|relation| relation.id);
        for relation in relations {
            let kind = match &*relation.definition {
                Definition::Table(_) => JobKind::Table,
                Definition::View(_) => JobKind::View,
                Definition::Sink(_) => JobKind::Sink,
                Definition::Pipeline(_) => JobKind::Pipeline,
                Definition::Unbound(unbound) => JobKind::Unbound(unbound.noun),
                _ => continue,
            };
            let job = figures.get(&relation.id).cloned().unwrap_or_default();
            let shards = snapshots.relations.get(&relation.id);
            let operator_bytes = job.operator_sums();
            let field_notices = job.field_notices.values().flatten().cloned().collect();
            let sink_bytes = job.sink.as_ref().map_or(0, |sink| sink.state_bytes);
            jobs.push(JobStatus {
                id: relation.id,
                name: relation.name.clone(),
                kind,
                state: job.state(workers),
                resumed_by: job.failure.as_ref().and_then(|failure| failure.resumed_by.clone()),
                rows_in: job.rows_in,
                bytes_in: job.bytes_in,
                bad_messages: job.bad_messages,
                field_notices,
                row_count: shards
                    .map(|shards| shards.iter().map(|shard| shard.row_count() as u64).sum()),
                state_bytes: operator_bytes.iter().map(|(_, bytes)| bytes).sum::<u64>()
                    + sink_bytes,
                operator_bytes,
                sink: job.sink,
            });
        }
        jobs
    }
}

/// True if the relation's fragment reads a source itself.
fn reads_outside(catalog: &Catalog, relation: &Relation) -> bool {
    match &*relation.definition {
        Definition::Table(table) => table.connector.is_some(),
        Definition::View(_) | Definition::Sink(_) | Definition::Pipeline(_) => {
            names_source(catalog, relation)
        }
        _ => false,
    }
}

/// True if the relation's query names a source, or a plain view that does.
fn names_source(catalog: &Catalog, relation: &Relation) -> bool {
    let mut named = relation.depends_on.iter().filter_map(|id| catalog.by_id(*id));
    named.any(|named| match &*named.definition {
        Definition::Source(_) => true,
        Definition::LogicalView(_) => names_source(catalog, named),
        _ => false,
    })
}

impl Starting {
    fn catch_up(&self) -> CatchUp {
        let of = |figure: fn(&CatchUpProgress) -> u64| self.progress.values().map(figure);
        CatchUp {
            rows_done: of(|progress| progress.rows_done).sum(),
            rows_total: of(|progress| progress.rows_total).sum(),
            epochs_behind: of(|progress| progress.epochs_behind).max().unwrap_or(0),
        }
    }
}

impl Figures {
    fn error(&self) -> Option<&Error> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    fn state(&self, workers: usize) -> JobState {
        if let Some(error) = self.error() {
            return JobState::Failed { error: error.to_string() };
        }
        if let Some(starting) = &self.starting {
            return JobState::CatchingUp(starting.catch_up());
        }
        match self.problem.as_ref().or_else(|| self.source_problems.values().next()) {
            Some((attempts, error)) => {
                JobState::Retrying { attempts: *attempts, error: error.clone() }
            }
            None if self.ended.len() >= workers => JobState::Finished,
            None => JobState::Running,
        }
    }

    fn operator_sums(&self) -> Vec<(String, u64)> {
        let mut sums: Vec<(String, u64)> = Vec::new();
        for operators in self.operator_bytes.values() {
            for (index, (name, bytes)) in operators.iter().enumerate() {
                match sums.get_mut(index) {
                    Some((_, sum)) => *sum += bytes,
                    None => sums.push((name.clone(), *bytes)),
                }
            }
        }
        sums
    }
}
