//! [`UpsertBatch`]: changes by key whose old row the source does not tell.

use arrow::array::RecordBatch;
use arrow::buffer::BooleanBuffer;

use crate::{ConnectorError, Result};

/// What a row of an [`UpsertBatch`] does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UpsertOp {
    /// The row replaces the row with its key, if there is one.
    Upsert = 0,
    /// The row with this key goes; only the key columns are meaningful.
    Delete = 1,
    /// All rows go; no column is meaningful.
    Truncate = 2,
}

/// Changes by primary key, in the order of the source.
///
/// The table that takes them keeps the old rows and turns them into retractions. Order matters:
/// for one key the last row wins.
///
/// Shape: `rows` and `ops` of one length. `unchanged` is empty or has one entry a column; a set
/// bit says that the source did not send this value (Debezium's unavailable TOAST value), so the
/// stored one stays. All columns outside the key are nullable here, since a delete has only a key.
#[derive(Debug, Clone)]
pub struct UpsertBatch {
    rows: RecordBatch,
    ops: Vec<UpsertOp>,
    unchanged: Vec<Option<BooleanBuffer>>,
}

impl UpsertBatch {
    /// Puts rows, operations and the marks of unchanged values together.
    ///
    /// # Errors
    /// `Internal` if lengths differ.
    pub fn try_new(
        rows: RecordBatch,
        ops: Vec<UpsertOp>,
        unchanged: Vec<Option<BooleanBuffer>>,
    ) -> Result<Self> {
        let marks_fit = unchanged.is_empty() || unchanged.len() == rows.num_columns();
        let lengths_fit = unchanged.iter().flatten().all(|marks| marks.len() == rows.num_rows());
        if rows.num_rows() != ops.len() || !marks_fit || !lengths_fit {
            return Err(ConnectorError::internal("operations do not match the rows of an upsert"));
        }
        Ok(Self { rows, ops, unchanged })
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// What each row does.
    pub fn ops(&self) -> &[UpsertOp] {
        &self.ops
    }

    /// Marks of values that the source did not send, by column; empty when there are none.
    pub fn unchanged(&self) -> &[Option<BooleanBuffer>] {
        &self.unchanged
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.ops.len()
    }
}
