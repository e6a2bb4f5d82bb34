//! [`Operator`]: the contract of one step of a dataflow.

use std::collections::BTreeMap;

use frazil_connector_api::{BadMessage, ChangeBatch, UpsertBatch};

use crate::catalog::RelationId;
use crate::change::batch_bytes;
use crate::env::Scratch;
use crate::error::{Error, Result};
use crate::state::{MovedRows, StateDelta, StateTable};

/// Where an operator puts its output changes.
#[derive(Debug, Default)]
pub struct Output {
    batches: Vec<ChangeBatch>,
    bytes: usize,
    refused: Vec<BadMessage>,
}

impl Output {
    /// Emits a batch; an empty one is dropped.
    pub fn push(&mut self, batch: ChangeBatch) {
        if batch.num_rows() > 0 {
            self.bytes += batch_bytes(batch.rows());
            self.batches.push(batch);
        }
    }

    /// Memory of what was emitted and not taken, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets a message aside that cannot be applied: a row of the errors table.
    pub fn refuse(&mut self, message: BadMessage) {
        self.refused.push(message);
    }

    /// Takes the messages that were set aside.
    pub fn take_refused(&mut self) -> Vec<BadMessage> {
        std::mem::take(&mut self.refused)
    }

    /// Takes what was emitted.
    pub fn take(&mut self) -> Vec<ChangeBatch> {
        self.bytes = 0;
        std::mem::take(&mut self.batches)
    }
}

/// What is true of one epoch, on every worker alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochInfo {
    /// Its number.
    pub epoch: u64,
    /// Its time in milliseconds since 1970 in UTC, not before that of any earlier epoch, also over
    /// a restart. It is the coordinator's clock when the epoch was closed; epochs of a backfill
    /// have the time of the last one before them.
    pub now_ms: i64,
    /// The event time in milliseconds since 1970 in UTC up to which a source is complete. Empty: no
    /// statement declares a watermark yet.
    pub watermarks: BTreeMap<RelationId, i64>,
}

/// One step of a dataflow. The module's doc gives the law.
pub trait Operator {
    /// Name for `EXPLAIN`, metrics and errors.
    fn name(&self) -> &'static str;

    /// Takes changes of the current epoch on input `input`.
    ///
    /// # Errors
    /// What an expression met in a row; the job fails with it. State may be left half-changed.
    fn on_changes(&mut self, input: usize, changes: ChangeBatch, out: &mut Output) -> Result<()>;

    /// Takes changes by key of the current epoch; only a table's operator does.
    ///
    /// # Errors
    /// As [`Operator::on_changes`].
    fn on_upserts(&mut self, _upserts: UpsertBatch, _out: &mut Output) -> Result<()> {
        Err(Error::internal(format!("operator {} takes no upserts", self.name())))
    }

    /// All changes of the epoch have come: emits what waited for that. What depends on time takes
    /// it from `epoch` alone.
    ///
    /// # Errors
    /// As [`Operator::on_changes`].
    fn on_epoch_end(&mut self, epoch: &EpochInfo, out: &mut Output) -> Result<()>;

    /// When the operator has something to do though no input comes, in microseconds since 1970: it
    /// is to see the end of an epoch then.
    fn due_at(&self) -> Option<i64> {
        None
    }

    /// The keyed tables that hold this operator's durable state; empty for a stateless one.
    fn state_tables(&self) -> Vec<StateTable> {
        Vec::new()
    }

    /// About the number of rows that the next [`Operator::checkpoint`] gives.
    fn changed_rows(&self) -> usize {
        0
    }

    /// What changed in the state tables since the last call. Called between epochs.
    ///
    /// # Errors
    /// Arrow kernels' only.
    fn checkpoint(&mut self) -> Result<Vec<StateDelta>> {
        Ok(Vec::new())
    }

    /// Takes stored rows of one state table, before the first change. Called once or more a table;
    /// the rows are live and their keys unique.
    ///
    /// # Errors
    /// `Corrupt` if the rows do not have the table's columns.
    fn restore(&mut self, _table: usize, _rows: arrow::array::RecordBatch) -> Result<()> {
        Ok(())
    }

    /// Moves rows of the state to scratch files until about `wanted` bytes have left the heap, in
    /// batches of at least `least` bytes. What the operator computes does not change.
    ///
    /// # Errors
    /// `Unavailable` if the disk refuses them; the operator can be used all the same.
    fn move_cold(&mut self, _wanted: usize, _least: usize, _to: &Scratch) -> Result<MovedRows> {
        Ok(MovedRows::default())
    }

    /// Bytes of the state in scratch files.
    fn cold_bytes(&self) -> usize {
        0
    }

    /// Memory of the state in bytes, without what is in scratch files.
    fn state_bytes(&self) -> usize {
        0
    }
}
