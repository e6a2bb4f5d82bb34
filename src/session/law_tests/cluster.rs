//! [`Cluster`]: an engine of one or two processes, all of them in this one.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;

use arrow::array::RecordBatch;
use frazil_connector_api::Connectors;
use futures::TryStreamExt;
use futures::future::try_join_all;

use super::channel::Channel;
use super::ledger::Ledger;
use crate::config::{ByteSize, Config};
use crate::env::Env;
use crate::env::faulty_store::FaultyStore;
use crate::error::{Error, Result};
use crate::job::Engine;
use crate::session::{Outcome, Sessions, query_error};

/// Time between epochs: writes that come together share one.
const EPOCH_INTERVAL_MS: u64 = 1;
/// Checkpoints of what sources send; each write makes one of its own.
const CHECKPOINT_INTERVAL_MS: u64 = 3;

/// Where an engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Layout {
    /// Processes.
    pub(super) processes: usize,
    /// Workers of each.
    pub(super) workers: usize,
}

impl fmt::Display for Layout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} process(es) of {} worker(s)", self.processes, self.workers)
    }
}

/// A running engine and the processes that lend it their workers.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Process 0.
    pub(super) engine: Engine,
    sessions: Sessions,
    lent: Vec<Engine>,
}

impl Cluster {
    /// Starts all processes over one store.
    pub(super) async fn open(layout: Layout, store: &Arc<FaultyStore>) -> Result<Self> {
        Self::open_with(layout, store, &Channel::default(), &Ledger::default()).await
    }

    /// The same, with a channel that tables can read, and targets for sinks.
    pub(super) async fn open_with(
        layout: Layout,
        store: &Arc<FaultyStore>,
        channel: &Channel,
        ledger: &Ledger,
    ) -> Result<Self> {
        let hosts = if layout.processes > 1 { free_addresses(layout.processes) } else { vec![] };
        let open = (0..layout.processes).map(|process| {
            // In some layouts all rows are in scratch files: nobody sees a difference.
            let is_short = (layout.processes + layout.workers).is_multiple_of(2);
            let config = Config {
                memory_soft_limit: ByteSize(if is_short { 1 } else { 0 }),
                workers: layout.workers,
                hosts: hosts.clone(),
                process,
                epoch_interval_ms: EPOCH_INTERVAL_MS,
                checkpoint_interval_ms: CHECKPOINT_INTERVAL_MS,
                ..Config::default()
            };
            let store = Arc::clone(store);
            let scratch = std::env::temp_dir().join("frazil-test-scratch");
            let connectors = Connectors::default().with_source(Arc::new(channel.clone()));
            let connectors = connectors.with_sink(Arc::new(ledger.clone()));
            async move {
                let env = Env::real(store)?.with_scratch(scratch).with_connectors(connectors);
                let env = env.with_stalls(process as u64);
                Engine::open(config, env).await
            }
        });
        let mut lent = try_join_all(open).await?;
        let engine = lent.remove(0);
        Ok(Self { sessions: Sessions::new(engine.clone()), engine, lent })
    }

    /// Runs statements in a session of their own; the rows of the queries among them.
    pub(super) async fn run(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut fatal = self.engine.fatal();
        tokio::select! {
            rows = run(self.sessions.clone(), sql.to_string()) => rows,
            Ok(error) = fatal.wait_for(Option::is_some) => {
                Err(error.clone().unwrap_or_else(|| Error::internal("the engine stopped")))
            }
        }
    }

    /// The same, on a task of its own.
    pub(super) fn start(&self, sql: &str) -> tokio::task::JoinHandle<Result<Vec<RecordBatch>>> {
        tokio::spawn(run(self.sessions.clone(), sql.to_string()))
    }

    /// A clean stop of all processes.
    pub(super) async fn stop(&self) -> Result<()> {
        self.engine.shutdown().await?;
        for process in &self.lent {
            process.wait().await?;
        }
        Ok(())
    }
}

async fn run(sessions: Sessions, sql: String) -> Result<Vec<RecordBatch>> {
    let mut session = sessions.open();
    let mut rows = Vec::new();
    for statement in session.parse(&sql)? {
        if let Outcome::Rows { stream, .. } = session.execute(&statement, &[]).await? {
            rows.extend(stream.try_collect::<Vec<_>>().await.map_err(query_error)?);
        }
    }
    Ok(rows)
}

fn free_addresses(count: usize) -> Vec<String> {
    // All at once, so that they are different.
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}
