//! [`AppendedRows`]: rows that only come, on their way to durable state.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;

use super::{RowNumber, StateDelta, StateTable};
use crate::change::{BATCH_BYTES_MAX, ChangeBatch, batch_bytes};
use crate::error::{Error, Result};

/// Batches of fewer rows are put together.
const BATCH_ROWS: usize = 8192;

/// Rows that came since the last checkpoint. They have no key, so durable state numbers them; see
/// [`RowNumber`].
#[derive(Debug)]
pub struct AppendedRows {
    schema: SchemaRef,
    writer: u64,
    rows: Vec<RecordBatch>,
    /// Number of rows in earlier checkpoints.
    written: u64,
}

impl AppendedRows {
    /// No rows yet.
    pub fn new(schema: SchemaRef, writer: u64) -> Self {
        Self { schema, writer, rows: Vec::new(), written: 0 }
    }

    /// Takes rows.
    pub fn push(&mut self, rows: RecordBatch) {
        self.rows.push(rows);
    }

    /// Where they are kept.
    pub fn state_table(&self) -> StateTable {
        RowNumber::table(self.schema.fields())
    }

    /// Number of rows of the next [`AppendedRows::delta`].
    pub fn changed_rows(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows that came since the last call, for state table `table`.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub fn delta(&mut self, table: usize) -> Result<StateDelta> {
        let state = self.state_table();
        let writer = self.writer;
        let mut numbered = |rows: RecordBatch| {
            let first = self.written;
            self.written += rows.num_rows() as u64;
            let numbers = (first..self.written).map(|row| RowNumber { writer, row });
            let columns = [&RowNumber::columns(numbers), rows.columns()].concat();
            RecordBatch::try_new(Arc::clone(&state.schema), columns)
        };
        let mut whole = BatchCoalescer::new(Arc::clone(&self.schema), BATCH_ROWS)
            .with_biggest_coalesce_batch_size(Some(BATCH_ROWS / 2));
        let mut buffered_bytes = 0;
        for rows in std::mem::take(&mut self.rows) {
            let bytes = batch_bytes(&rows);
            if buffered_bytes + bytes > BATCH_BYTES_MAX {
                whole.finish_buffered_batch()?;
                buffered_bytes = 0;
            }
            buffered_bytes += bytes;
            whole.push_batch(rows)?;
        }
        whole.finish_buffered_batch()?;
        let mut puts = Vec::new();
        while let Some(rows) = whole.next_completed_batch() {
            puts.push(numbered(rows)?);
        }
        let (schema, deletes) = (state.schema, Vec::new());
        Ok(StateDelta { table, schema, puts, deletes, delete_shards: None })
    }

    /// What came is durable.
    pub fn forget(&mut self) {
        self.rows.clear();
    }
}

/// Every row as many times as its weight says.
///
/// # Errors
/// `Internal` if rows are retracted, which an append-only input never does.
pub fn append_indices(changes: &ChangeBatch) -> Result<UInt32Array> {
    let mut indices = Vec::with_capacity(changes.num_rows());
    let mut retracted = 0;
    for row in 0..changes.num_rows() {
        let weight = changes.weight(row);
        retracted += usize::from(weight < 0);
        indices.extend((0..weight).map(|_| row as u32));
    }
    if retracted > 0 {
        let message = format!("{retracted} rows were retracted from an append-only input");
        return Err(Error::internal(message));
    }
    Ok(UInt32Array::from(indices))
}
