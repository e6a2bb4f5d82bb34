//! [`QueryRuntime`]: threads, memory and disk of statements that run once.

mod query_pool;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use futures::{FutureExt, StreamExt, stream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use self::query_pool::QueryPool;
use super::failure::{panic_error, query_error};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BatchPlanner, LARGE_STACK_BYTES, on_large_stack};
use crate::sql::Statement;
use crate::state::MemoryAccount;

/// Where queries put what does not fit into memory, within the data directory.
pub const SPILL_DIRECTORY: &str = "query-spill";
/// More threads than cores: a query that computes for long keeps its thread, and short ones beside
/// it are left to the system's scheduler.
const THREADS_PER_CORE: usize = 4;
const THREADS_MIN: usize = 8;
/// Batches that wait between a query and who reads it.
const BATCHES_AHEAD: usize = 2;

/// Threads with large stacks apart from the coordinator's and the clients' connections, so that no
/// query keeps these waiting; a pool of memory for all queries, and a directory to spill to.
#[derive(Debug)]
pub(super) struct QueryRuntime {
    /// Some until it is dropped.
    threads: Option<Runtime>,
    planner: Arc<BatchPlanner>,
}

impl QueryRuntime {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Unavailable` if the threads or the directory cannot be made.
    pub(super) fn start(config: &Config, account: &Arc<MemoryAccount>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = (THREADS_PER_CORE * cores).max(THREADS_MIN);
        let threads = Builder::new_multi_thread()
            .thread_name("frazil-query")
            .worker_threads(threads)
            .thread_stack_size(LARGE_STACK_BYTES)
            .enable_all()
            .build()?;
        let limit = match config.query_memory_bytes {
            0 => account.limit() / 4,
            bytes => bytes,
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // An engine whose store is in memory has no directory.
        let mode = match config.data_dir.is_dir() {
            true => {
                let directory = config.data_dir.join(SPILL_DIRECTORY);
                std::fs::create_dir_all(&directory)?;
                DiskManagerMode::Directories(vec![directory])
            }
            false => DiskManagerMode::OsTmpDirectory,
        };
        let memory = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(QueryPool::new(limit, account)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
            .build_arc()
            .map_err(query_error)?;
        Ok(Self { threads: Some(threads), planner: Arc::new(BatchPlanner::new(memory)) })
    }

    /// Plans queries, which share its memory and disk.
    pub(super) fn planner(&self) -> &Arc<BatchPlanner> {
        &self.planner
    }

    fn threads(&self) -> Result<&Runtime> {
        self.threads.as_ref().ok_or_else(|| Error::new(ErrorKind::Shutdown, "the queries stopped"))
    }

    /// Runs a step on the threads; it ends when nobody waits for it any more.
    ///
    /// # Errors
    /// What the step says; `Internal` if it panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        step: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut step = Abandoned(self.threads()?.spawn(step));
        match (&mut step.0).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => Err(panic_error(error.into_panic().as_ref())),
            Err(error) => Err(Error::new(ErrorKind::Shutdown, error.to_string())),
        }
    }

    /// Rows that the threads compute, a few batches ahead of who reads them. To be called on one of
    /// the threads: it computes the first batches itself and starts a task only for the rest.
    ///
    /// # Errors
    /// `Shutdown`; what the first rows say.
    pub(super) async fn ahead(
        &self,
        mut rows: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        let schema = rows.schema();
        let mut first = Vec::new();
        let mut next = rows.next().await;
        let rest = loop {
            match next {
                None => break None,
                Some(batch) => first.push(batch.map_err(query_error)?),
            }
            if first.len() == BATCHES_AHEAD {
                break Some(rows);
            }
            match rows.next().now_or_never() {
                Some(batch) => next = batch,
                None => break Some(rows),
            }
        };
        let first = stream::iter(first.into_iter().map(Ok));
        let Some(mut rest) = rest else {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, first)));
        };
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&schema), BATCHES_AHEAD);
        let sender = builder.tx();
        let step = async move {
            while let Some(batch) = rest.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        builder.spawn_on(step, self.threads()?.handle());
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, first.chain(builder.build()))))
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // The last session may end on a thread that must not wait.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// A step that is stopped when this is dropped.
struct Abandoned<T>(JoinHandle<T>);

impl<T> Drop for Abandoned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long a statement may take, from its start to its last row.
#[derive(Debug)]
pub(super) struct Deadline {
    sleep: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl Deadline {
    /// A deadline from now on.
    pub(super) fn after(timeout: Duration) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep(timeout)) }
    }

    /// Runs a step until the deadline.
    ///
    /// # Errors
    /// `Cancelled` if it is over before the step is done; what the step says.
    pub(super) async fn bound<T>(&mut self, step: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = &mut self.sleep => Err(timed_out()),
            done = step => done,
        }
    }

    /// Rows that end with an error at the deadline.
    pub(super) fn bound_rows(self, rows: SendableRecordBatchStream) -> SendableRecordBatchStream {
        let schema = rows.schema();
        let bound = stream::unfold(Some((rows, self)), |state| async move {
            let (mut rows, mut deadline) = state?;
            tokio::select! {
                biased;
                () = &mut deadline.sleep => {
                    Some((Err(DataFusionError::External(Box::new(timed_out()))), None))
                }
                batch = rows.next() => batch.map(|batch| (batch, Some((rows, deadline)))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, bound))
    }
}

fn timed_out() -> Error {
    Error::new(ErrorKind::Cancelled, "canceling statement due to statement timeout")
        .with_hint("SET statement_timeout to a longer time, or to 0 for none")
}

/// A copy for a thread of queries; a statement may be deeply nested.
pub(super) fn copy(statement: &Statement) -> Statement {
    on_large_stack(|| statement.clone())
}
