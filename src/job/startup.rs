//! Starts an engine: the chain of manifests, Timely's workers, recovery, the coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use frazil_connector_api::Fence;
use timely::WorkerConfig;
use timely::communication::Config as Communication;
use tokio::sync::mpsc;

use self::reconcile::reconcile;
use super::Engine;
use super::checkpointer::Checkpointer;
use super::coordinator::{Coordinator, WorkerLink};
use super::engine::{Inner, Workers};
use super::schedule::{self, Records};
use super::sink_slot::SinkSlot;
use super::sinks::Sinks;
use super::state::EngineState;
use crate::catalog::{Catalog, Definition, Relation, RelationId};
use crate::checkpoint::{Manifest, Manifests, SinkRecord};
use crate::config::Config;
use crate::dataflow::{
    CatalogChange, CatalogChanges, CheckedRelation, Command, Event, Planner, ProcessShared,
    Recovery, RemoteRows, Report, Request, Step, StepText, build_sink, run_worker,
};
use crate::env::{Env, FolderLock, memory_bytes};
use crate::error::{Error, Result};
use crate::plan::PlannedRelation;
use crate::sql;
use crate::state::{MemoryAccount, SnapshotStore};

mod reconcile;

const MESSAGES_WAITING: usize = 1024;

impl Engine {
    /// Recovers from the data directory and starts the workers. In process 0 it returns when all
    /// processes have joined and the state is restored.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    pub async fn open(config: Config, env: Env) -> Result<Self> {
        let engine = Self::new(start(config, env).await?);
        if engine.coordinates() {
            schedule::spawn(&engine);
        }
        Ok(engine)
    }
}

/// Starts an engine.
async fn start(config: Config, env: Env) -> Result<Inner> {
    let threads = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let peers = threads * config.hosts.len().max(1);
    let memory = memory_account(&config);
    if let Some(scratch) = env.scratch() {
        scratch.set_resident_max(memory.mapped_limit());
    }
    let coordinates = config.process == 0;
    let lock = if coordinates { env.lock_store()? } else { None };
    let snapshots = Arc::new(SnapshotStore::new(Arc::clone(&memory), !coordinates));
    let state = Arc::new(EngineState::new(Arc::clone(&snapshots), Arc::clone(&memory)));
    let remote_rows = coordinates && peers > threads;
    let remote_rows = remote_rows.then(|| Arc::new(RemoteRows::new(peers)));
    let (events, received) = mpsc::unbounded_channel();
    let planner: Option<Planner> = (!coordinates).then(process_planner);
    let changes = Arc::new(CatalogChanges::new(threads, planner));
    let shared = Arc::new(ProcessShared {
        config: config.clone(),
        env: env.clone(),
        snapshots,
        memory,
        tokio: tokio::runtime::Handle::current(),
        threads,
        remote_rows: remote_rows.clone(),
        changes: Arc::clone(&changes),
        events: coordinates.then_some(events),
    });
    let (requests, taken) = channel();
    let (thread, ended) = spawn_workers(&config, threads, shared, taken, &state).await?;
    remote_rows.iter().for_each(|rows| rows.start(thread.clone()));
    let mut inner = Inner {
        config,
        env,
        state,
        remote_rows,
        messages: None,
        workers: Workers { peers, pipelines: Records::default(), ended },
        ddl: tokio::sync::Mutex::default(),
    };
    if coordinates {
        let link = WorkerLink { requests, thread, workers: peers, changes };
        coordinate(&mut inner, link, received, lock).await?;
    }
    Ok(inner)
}

/// Begins with the newest manifest, in process 0.
///
/// All processes have joined by now: one that is started by mistake waits for its peers and must
/// not stop the engine that runs.
async fn coordinate(
    inner: &mut Inner,
    link: WorkerLink,
    mut received: mpsc::UnboundedReceiver<Event>,
    lock: Option<FolderLock>,
) -> Result<()> {
    let (env, state) = (inner.env.clone(), Arc::clone(&inner.state));
    let (manifests, mut manifest) = Manifests::open(env.clone()).await?;
    let leftovers = manifests.unnamed(&manifest).await?;
    let Recovered { sinks, relations, rebuilt } = recover(&mut manifest, &env, &state).await;
    let steps = relations.iter().cloned().map(Step::Make).collect();
    let change = Arc::new(CatalogChange { steps });
    link.changes.put(0, Arc::clone(&change));
    let _ = link.requests.send(Request::Command(restoring(&manifest, &change, rebuilt)));
    link.thread.unpark();
    let backlog = wait_for_workers(link.workers, &mut received).await?;
    env.reach("recovery.restored");
    state.finish_epoch(manifest.epoch);
    let checkpointer = Checkpointer::new(env.clone(), manifests, manifest, &state);
    checkpointer.remove(leftovers);
    inner.workers.pipelines = Records::new(checkpointer.clone());
    for run in inner.workers.pipelines.recent() {
        state.set_run(run);
    }
    let (messages, asked) = mpsc::channel(MESSAGES_WAITING);
    inner.messages = Some(messages);
    let mut coordinator = Coordinator::new(
        inner.config.clone(),
        env,
        state,
        link,
        relations,
        received,
        asked,
        checkpointer,
        sinks,
    );
    coordinator.take_backlog(backlog)?;
    coordinator.publish_restarts();
    tokio::spawn(coordinator.run(lock));
    Ok(())
}

/// The account of this process with the limits that the settings give.
fn memory_account(config: &Config) -> Arc<MemoryAccount> {
    let share = |of: u64| of / 4 * 3;
    let limit = match config.memory_limit.0 {
        0 => share(memory_bytes()),
        limit => limit,
    };
    let soft_limit = match config.memory_soft_limit.0 {
        0 => share(limit),
        limit => limit,
    };
    MemoryAccount::new(soft_limit, limit)
}

/// Starts the worker threads; returns worker 0's thread and a flag that all have ended.
async fn spawn_workers(
    config: &Config,
    threads: usize,
    shared: Arc<ProcessShared>,
    requests: Receiver<Request>,
    state: &Arc<EngineState>,
) -> Result<(std::thread::Thread, Arc<AtomicBool>)> {
    let communication = if config.hosts.len() > 1 {
        stop_when_a_process_is_lost();
        Communication::Cluster {
            threads,
            process: config.process,
            addresses: config.hosts.clone(),
            report: false,
            zerocopy: false,
        }
    } else {
        Communication::Process(threads)
    };
    let timely = timely::Config { communication, worker: WorkerConfig::default() };
    let requests = Mutex::new(Some(requests));
    let failing = Arc::clone(state);
    let run = move |worker: &mut timely::worker::Worker| {
        let requests = match worker.index() {
            0 => requests.lock().unwrap_or_else(PoisonError::into_inner).take(),
            _ => None,
        };
        let shared = Arc::clone(&shared);
        let run = std::panic::AssertUnwindSafe(|| run_worker(worker, shared, requests));
        if std::panic::catch_unwind(run).is_err() {
            failing.stop_with(Error::internal("a worker has panicked"));
            // Its peers would wait for it for ever.
            loop {
                std::thread::park();
            }
        }
    };
    // Waits until all processes have connected.
    let guards = tokio::task::spawn_blocking(move || timely::execute(timely, run))
        .await
        .map_err(|error| Error::internal(error.to_string()))?
        .map_err(|error| Error::internal(format!("the workers could not start: {error}")))?;
    let thread = guards.guards().first().map(|guard| guard.thread().clone());
    let thread = thread.ok_or_else(|| Error::internal("no worker has started"))?;
    let ended = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ended);
    std::thread::spawn(move || {
        guards.join();
        flag.store(true, Ordering::SeqCst);
    });
    Ok((thread, ended))
}

/// Timely's network threads panic when a peer goes: the whole process stops then, cleanly for the
/// data, since nothing is committed without a manifest. A restart of all recovers.
fn stop_when_a_process_is_lost() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.starts_with("timely communication error:")) {
            tracing::error!("the connection to another process is lost: restart all processes");
            std::process::exit(1);
        }
        before(panic);
    }));
}

/// What a manifest has, ready to run.
struct Recovered {
    sinks: Sinks,
    /// In the order of their ids, without those that could not be planned.
    relations: Vec<Arc<CheckedRelation>>,
    /// Views that are rebuilt.
    rebuilt: BTreeSet<RelationId>,
}

/// Brings the catalog, the failures and the sinks to where the manifest is. What cannot be brought
/// there has failed, in the manifest as well, and all that reads it.
async fn recover(manifest: &mut Manifest, env: &Env, state: &Arc<EngineState>) -> Recovered {
    let mut catalog = Catalog::default();
    let (mut slots, mut relations) = (Vec::new(), Vec::new());
    let mut failed = std::mem::take(&mut manifest.failed);
    for record in &manifest.catalog.statements {
        for planned in sql::enter_stored(&mut catalog, record.id, &record.sql, record.forms) {
            let relation = Arc::clone(&planned.relation);
            let outcome = match checked(planned) {
                Err(error) => Err(error),
                Ok(checked) => {
                    relations.push(checked);
                    match manifest.sinks.get(&relation.id) {
                        Some(record) => restore_sink(&relation, record, manifest.fence, env).await,
                        None => Ok(None),
                    }
                }
            };
            match outcome {
                Ok(slot) => {
                    slot.iter().for_each(|slot| slot.charge_to(&state.memory));
                    slots.extend(slot);
                }
                Err(error) => _ = failed.entry(relation.id).or_insert(error),
            }
        }
    }
    catalog.set_next_id(manifest.next_relation.max(catalog.next_id()));
    failed.retain(|relation, _| catalog.by_id(*relation).is_some());
    manifest.failed = failed;
    let rebuilt = reconcile(&catalog, &relations, manifest);
    let mut sinks = Sinks::default();
    for slot in slots {
        sinks.add(slot, &catalog);
    }
    for (relation, error) in &manifest.failed {
        let name = catalog.by_id(*relation).map(|relation| relation.name.as_str());
        tracing::error!(job = name, %error, "a job has failed and is not run");
        state.set_failure(*relation, error.clone(), None);
    }
    state.set_ddl_catalog(Arc::new(catalog.clone()));
    state.set_catalog(catalog);
    Recovered { sinks, relations, rebuilt }
}

/// A stored relation as workers build it.
fn checked(planned: PlannedRelation) -> Result<Arc<CheckedRelation>> {
    match &*planned.relation.definition {
        Definition::Unbound(unbound) => Err(unbound.error.clone()),
        _ => CheckedRelation::try_new(planned).map(Arc::new),
    }
}

/// Plans changes of the catalog in a process that does not coordinate: of the same catalog and text
/// comes the same plan.
fn process_planner() -> Planner {
    let mut catalog = Catalog::default();
    let mut planned: BTreeMap<RelationId, Arc<CheckedRelation>> = BTreeMap::new();
    Box::new(move |steps, recovery| {
        let mut change = CatalogChange::default();
        for step in steps {
            match step {
                StepText::Drop(id) => {
                    if let Some(relation) = catalog.by_id(*id).cloned() {
                        catalog.remove(&relation.name);
                    }
                    planned.remove(id);
                    change.steps.push(Step::Drop(*id));
                }
                StepText::Stop(id) => change.steps.push(Step::Stop(*id)),
                StepText::Resume(id) => {
                    let missing = || Error::internal(format!("relation {id} is not planned"));
                    let checked = planned.get(id).cloned().ok_or_else(missing)?;
                    change.steps.push(Step::Resume(checked));
                }
                StepText::Make { id, sql, forms } => {
                    for relation in sql::enter_stored(&mut catalog, *id, sql, *forms) {
                        let id = relation.relation.id;
                        match checked(relation) {
                            Ok(made) => {
                                planned.insert(id, Arc::clone(&made));
                                change.steps.push(Step::Make(made));
                            }
                            // Process 0 has found the same.
                            Err(_) if recovery.is_some_and(|it| it.failed.contains(&id)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
        }
        Ok(change)
    })
}

/// The sink of a relation as a manifest has it; `None` for other relations.
async fn restore_sink(
    relation: &Relation,
    record: &SinkRecord,
    fence: Fence,
    env: &Env,
) -> Result<Option<Arc<SinkSlot>>> {
    let Some(def) = relation.definition.sink() else { return Ok(None) };
    let schema = Arc::clone(&relation.schema);
    // CREATE SINK made the target. If it is gone now, a new one would lack all that was written
    // before.
    let mut options = def.connector.clone();
    options.take("create_table_if_not_exists");
    let mode = def.mode.clone();
    let sink = build_sink(env, &options, Arc::clone(&schema), mode, record.id)?;
    let name = relation.name.clone();
    let slot = SinkSlot::new(relation.id, name, record.id, schema, &def.mode, sink);
    slot.restore(record, fence, env).await?;
    Ok(Some(Arc::new(slot)))
}

/// Has all workers rebuild their fragments from the manifest.
fn restoring(
    manifest: &Manifest,
    change: &CatalogChange,
    rebuilt: BTreeSet<RelationId>,
) -> Command {
    let recovery = Recovery {
        resumes: false,
        segments: manifest.segments().cloned().collect(),
        offsets: manifest.offsets.clone(),
        rebuilt,
        followed: BTreeSet::new(),
        failed: manifest.failed.keys().copied().collect(),
        fence: manifest.fence,
        last_epoch: (manifest.epoch, manifest.now_ms),
    };
    Command::Apply {
        number: 0,
        steps: change.text(),
        epoch: manifest.epoch + 1,
        recovery: Some(Box::new(recovery)),
        starts: BTreeMap::new(),
    }
}

/// Waits until all workers have restored their fragments; gives what they reported meanwhile.
async fn wait_for_workers(
    peers: usize,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> Result<Vec<Event>> {
    let (mut backlog, mut applied) = (Vec::new(), 0);
    while applied < peers {
        match events.recv().await {
            Some(Event::Report(_, Report::Applied { error: None })) => applied += 1,
            Some(Event::Report(_, Report::Applied { error: Some(error) })) => {
                return Err(error.within("restoring the state"));
            }
            Some(event) => backlog.push(event),
            None => return Err(Error::internal("a worker ended while it was restored")),
        }
    }
    Ok(backlog)
}
