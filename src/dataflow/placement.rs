//! [`Route`] and [`Placement`]: to which worker a row goes, and in which shard it is stored.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::physical_plan::PhysicalExpr;

use crate::change::{self, ShardRange};
use crate::error::{Error, Result};
use crate::state::{DeltaShards, StateDelta};

/// Which worker takes a row.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// One worker takes all.
    Single,
    /// By the hash of expressions over the row.
    Exprs {
        /// The key.
        exprs: Vec<Arc<dyn PhysicalExpr>>,
        /// Number of workers of all processes.
        workers: usize,
    },
    /// By the hash of columns.
    Columns {
        /// The key.
        columns: Vec<usize>,
        /// Number of workers of all processes.
        workers: usize,
    },
}

impl Route {
    /// Number of workers that take rows.
    pub(crate) fn workers(&self) -> usize {
        match self {
            Self::Single => 1,
            Self::Exprs { workers, .. } | Self::Columns { workers, .. } => *workers,
        }
    }

    /// What a row goes by.
    ///
    /// # Errors
    /// What an expression meets in a row.
    pub(crate) fn keys(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        match self {
            Self::Single => Ok(Vec::new()),
            Self::Columns { columns, .. } => {
                Ok(columns.iter().map(|column| Arc::clone(rows.column(*column))).collect())
            }
            Self::Exprs { exprs, .. } => exprs
                .iter()
                .map(|expr| Ok(expr.evaluate(rows)?.into_array(rows.num_rows())?))
                .collect(),
        }
    }
}

/// In which shards the rows of a state table are stored.
///
/// Law: the worker that a route sends a row to owns the shard of that row.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// Where the rows as they came would go.
    pub(crate) route: Route,
    /// Number of leading key columns of the stored rows.
    pub(crate) key_columns: usize,
    /// The stored column where the rows as they came begin.
    pub(crate) row_start: usize,
}

impl Placement {
    /// Shards whose rows a worker keeps.
    pub(crate) fn shards_of(&self, worker: usize) -> ShardRange {
        match &self.route {
            Route::Single if worker == 0 => ShardRange::ALL,
            Route::Single => ShardRange::NONE,
            Route::Exprs { workers, .. } | Route::Columns { workers, .. } => {
                change::shards_of(worker, *workers)
            }
        }
    }

    /// Shards of what changed, which a worker keeps.
    ///
    /// # Errors
    /// `Internal` for rows that the worker does not keep, and for deletes whose shards are neither
    /// given nor told by their keys.
    pub(crate) fn delta_shards(&self, delta: &StateDelta, worker: usize) -> Result<DeltaShards> {
        let puts = delta.puts.iter().map(|rows| self.shards(rows));
        let puts = puts.collect::<Result<Vec<_>>>()?;
        let deletes = match &delta.delete_shards {
            None => delta.deletes.iter().map(|keys| self.shards(keys)).collect::<Result<_>>()?,
            Some(shards) => {
                let mut rest = shards.as_slice();
                let take = |keys: &RecordBatch| {
                    let (of_keys, more) = rest.split_at_checked(keys.num_rows())?;
                    rest = more;
                    Some(of_keys.to_vec())
                };
                let deletes: Option<Vec<_>> = delta.deletes.iter().map(take).collect();
                deletes.ok_or_else(|| Error::internal("deletes without a shard"))?
            }
        };
        let own = self.shards_of(worker);
        let strange = puts.iter().chain(&deletes).flatten().find(|shard| !own.contains(**shard));
        match strange {
            None => Ok(DeltaShards { puts, deletes }),
            Some(shard) => {
                let message = format!("worker {worker} has a row of shard {shard}");
                Err(Error::internal(message))
            }
        }
    }

    /// Shards of stored rows, or of their keys.
    fn shards(&self, stored: &RecordBatch) -> Result<Vec<u8>> {
        let came = stored.num_columns().saturating_sub(self.row_start);
        let keys = match &self.route {
            // Spread as well, so that they are read in pieces.
            Route::Single => stored.columns()[..self.key_columns].to_vec(),
            Route::Columns { columns, .. } if columns.iter().any(|column| *column >= came) => {
                return Err(Error::internal("a deleted key does not tell its shard"));
            }
            route if self.row_start == 0 => route.keys(stored)?,
            route => {
                let came: Vec<usize> = (self.row_start..stored.num_columns()).collect();
                route.keys(&stored.project(&came)?)?
            }
        };
        let hashes = change::hash_rows(&keys, stored.num_rows())?;
        Ok(hashes.into_iter().map(change::shard_of).collect())
    }
}
