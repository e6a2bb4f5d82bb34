//! Starts an engine: the chain of manifests, Timely's workers, recovery, the coordinator.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frazil_connector_api::Sink;
use timely::WorkerConfig;
use timely::communication::Config as Communication;
use tokio::sync::mpsc;

use super::checkpointer::Checkpointer;
use super::coordinator::Coordinator;
use super::engine::Inner;
use super::reconcile::reconcile;
use super::schedule::Records;
use super::sink_slot::SinkSlot;
use super::sinks::Sinks;
use super::state::EngineState;
use crate::catalog::{Catalog, RelationId};
use crate::checkpoint::{Manifest, Manifests};
use crate::config::Config;
use crate::dataflow::{
    Command, Event, ProcessShared, Recovery, Report, Request, build_sink, run_worker,
};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::sql::{self, Bound};
use crate::state::SnapshotStore;

const MESSAGES_WAITING: usize = 1024;

/// The worker threads of this process.
pub(super) struct Workers {
    /// Workers of all processes.
    pub(super) peers: usize,
    pub(super) pipelines: Records,
    ended: Arc<AtomicBool>,
}

impl Workers {
    /// Waits until all threads have ended.
    pub(super) async fn wait(&self) -> Result<()> {
        while !self.ended.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

/// Starts an engine.
pub(super) async fn start(config: Config, env: Env) -> Result<Inner> {
    let threads = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let peers = threads * config.hosts.len().max(1);
    let snapshots = Arc::new(SnapshotStore::default());
    let state = Arc::new(EngineState::new(Arc::clone(&snapshots)));
    let coordinates = config.process == 0;
    let (events, mut received) = mpsc::unbounded_channel();
    let shared = Arc::new(ProcessShared {
        config: config.clone(),
        env: env.clone(),
        snapshots,
        tokio: tokio::runtime::Handle::current(),
        serving: threads,
        events: coordinates.then_some(events),
    });
    let opened = if coordinates { Some(Manifests::open(env.clone()).await?) } else { None };
    let (requests, taken) = channel();
    let (thread, ended) = spawn_workers(&config, threads, shared, taken, &state).await?;
    let mut inner = Inner {
        config: config.clone(),
        env: env.clone(),
        state: Arc::clone(&state),
        messages: None,
        workers: Workers { peers, pipelines: Records::default(), ended },
        ddl: tokio::sync::Mutex::default(),
    };
    let Some((manifests, mut manifest)) = opened else { return Ok(inner) };
    let leftovers = manifests.unnamed(&manifest).await?;
    manifest.adopt_layout((peers, threads));
    let (sinks, rebuilt) = recover(&mut manifest, &env, &state).await?;
    let backlog =
        restore_workers(&manifest, rebuilt, peers, &requests, &thread, &mut received).await?;
    state.finish_epoch(manifest.epoch);
    let checkpointer = Checkpointer::new(env.clone(), manifests, manifest);
    checkpointer.remove(leftovers);
    inner.workers.pipelines = Records::new(checkpointer.clone());
    for run in inner.workers.pipelines.recent() {
        state.set_run(run);
    }
    let (messages, asked) = mpsc::channel(MESSAGES_WAITING);
    inner.messages = Some(messages);
    let coordinator = Coordinator::new(
        config,
        env,
        state,
        (requests, thread, peers),
        received,
        asked,
        checkpointer,
        sinks,
    );
    tokio::spawn(coordinator.run(backlog));
    Ok(inner)
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

/// Brings the catalog, the failures and the sinks to where the manifest is. Returns the sinks and
/// the views that are rebuilt.
async fn recover(
    manifest: &mut Manifest,
    env: &Env,
    state: &Arc<EngineState>,
) -> Result<(Sinks, BTreeSet<RelationId>)> {
    let mut catalog = Catalog::default();
    let mut slots = Vec::new();
    for record in &manifest.statements {
        catalog.set_next_id(record.id);
        for statement in sql::parse(&record.sql)? {
            let Bound::Create(creation) = sql::bind(&catalog, &statement)? else {
                return Err(Error::internal("the manifest has a statement that is not CREATE"));
            };
            for relation in catalog.create(*creation, &statement.text)? {
                if let Some(def) = relation.definition.sink()
                    && let Some(record) = manifest.sinks.get(&relation.id)
                {
                    let schema = Arc::clone(&relation.schema);
                    // CREATE SINK made the target. If it is gone now, a new one would lack all that
                    // was written before.
                    let mut options = def.connector.clone();
                    options.take("create_table_if_not_exists");
                    let sink: Box<dyn Sink> =
                        build_sink(&options, Arc::clone(&schema), def.mode.clone(), record.id)?;
                    let name = relation.name.clone();
                    let slot = SinkSlot::new(relation.id, name, record.id, schema, sink);
                    slot.restore(record, manifest.fence, env).await?;
                    slots.push(Arc::new(slot));
                }
            }
        }
    }
    catalog.set_next_id(manifest.next_relation.max(catalog.next_id()));
    let rebuilt = reconcile(&catalog, manifest)?;
    let mut sinks = Sinks::default();
    for slot in slots {
        sinks.add(slot, &catalog);
    }
    state.set_catalog(catalog);
    for (relation, error) in &manifest.failed {
        state.set_failure(*relation, error.clone());
    }
    Ok((sinks, rebuilt))
}

/// Has all workers rebuild their fragments from the manifest, and waits for them; returns what the
/// first of them reported meanwhile.
async fn restore_workers(
    manifest: &Manifest,
    rebuilt: BTreeSet<RelationId>,
    peers: usize,
    requests: &Sender<Request>,
    thread: &std::thread::Thread,
    events: &mut mpsc::UnboundedReceiver<Event>,
) -> Result<Vec<Event>> {
    let recovery = Recovery {
        segments: manifest.segments.clone(),
        offsets: manifest.offsets.clone(),
        rebuilt,
        failed: manifest.failed.keys().copied().collect(),
        next_relation: manifest.next_relation,
        fence: manifest.fence,
    };
    let statements = manifest.statements.iter().map(|it| (it.id, it.sql.clone())).collect();
    let command = Command::Apply {
        statements,
        epoch: manifest.epoch + 1,
        recovery: Some(Box::new(recovery)),
    };
    let _ = requests.send(Request::Command(command));
    thread.unpark();
    let mut backlog = Vec::new();
    let mut applied = 0;
    while applied < peers {
        match events.recv().await {
            Some(Event::Report(_, Report::Applied { error: None })) => applied += 1,
            Some(Event::Report(_, Report::Applied { error: Some(error) })) => {
                return Err(Error::internal(error).within("restoring the state"));
            }
            Some(event) => backlog.push(event),
            None => return Err(Error::internal("a worker ended while it was restored")),
        }
    }
    Ok(backlog)
}
