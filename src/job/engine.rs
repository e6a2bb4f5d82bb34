//! [`Engine`]: the handle of a running engine.

use std::sync::Arc;

use arrow::array::RecordBatch;
use frazil_connector_api::Decoded;

use super::{JobStatus, PipelineRun};
use crate::catalog::{Catalog, Relation};
use crate::config::Config;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::plan::RelationId;

/// The handle of a running engine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Recovers from the data directory and starts the workers.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    pub async fn open(_config: Config, _env: Env) -> Result<Self> {
        Err(Error::internal("not built"))
    }

    /// The catalog as of now.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::default()
    }

    /// Applies a CREATE or DROP statement's text: installed on all workers, backfilled, durable.
    /// Returns what was made or dropped.
    ///
    /// # Errors
    /// What binding or the connector says.
    pub async fn apply(&self, _sql: &str) -> Result<Vec<Arc<Relation>>> {
        Err(Error::internal("not built"))
    }

    /// Writes changes into an own table; returns when they are durable and visible in every view.
    ///
    /// # Errors
    /// `Unavailable`, `Shutdown`.
    pub async fn write(&self, _table: RelationId, _changes: Decoded) -> Result<()> {
        Err(Error::internal("not built"))
    }

    /// A consistent snapshot of all tables and views at the newest finished epoch.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {}
    }

    /// Waits until everything that the sources held at the call is visible in views, durable, and
    /// committed by the sinks.
    ///
    /// # Errors
    /// The first failed job's error.
    pub async fn flush(&self) -> Result<()> {
        Err(Error::internal("not built"))
    }

    /// All jobs, by name.
    pub fn jobs(&self) -> Vec<JobStatus> {
        Vec::new()
    }

    /// Fires a pipeline now and waits for its commit.
    ///
    /// # Errors
    /// `UndefinedTable`, or what the run met.
    pub async fn run_pipeline(&self, _name: &str) -> Result<PipelineRun> {
        Err(Error::internal("not built"))
    }

    /// Firings, newest first.
    pub fn pipeline_runs(&self) -> Vec<PipelineRun> {
        Vec::new()
    }

    /// The newest finished epoch.
    pub fn epoch(&self) -> u64 {
        0
    }

    /// True when every bounded source has ended and all is visible and committed.
    pub fn is_finished(&self) -> bool {
        false
    }

    /// A clean stop: makes a last checkpoint, commits, stops the workers.
    ///
    /// # Errors
    /// What the last checkpoint met.
    pub async fn shutdown(&self) -> Result<()> {
        Err(Error::internal("not built"))
    }
}

/// All tables and views at one epoch.
#[derive(Debug, Clone)]
pub struct Snapshot {}

impl Snapshot {
    /// The epoch.
    pub fn epoch(&self) -> u64 {
        0
    }

    /// One table or view; `None` if it has no rows to read (a source, a sink).
    pub fn relation(&self, _id: RelationId) -> Option<RelationSnapshot> {
        None
    }
}

/// The rows of one table or view at one epoch.
#[derive(Debug, Clone)]
pub struct RelationSnapshot {}

impl RelationSnapshot {
    /// Number of rows.
    pub fn row_count(&self) -> usize {
        0
    }

    /// The rows, a batch each of some thousand rows, with the columns of the projection.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub fn batches(&self, _projection: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
        Ok(Vec::new())
    }
}
