//! [`AppendedRows`]: rows that only come, on their way to durable state.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{StateDelta, StateTable};
use crate::change::ChangeBatch;
use crate::error::{Error, Result};

/// Columns before the rows' own: `__writer`, `__row`.
const NUMBER_COLUMNS: usize = 2;

/// Rows that came since the last checkpoint. They have no key, so durable state numbers them:
/// `[__writer, __row] -> [column..]`.
///
/// **Invariant:** a writer's number is unique among all workers of all processes that ever wrote
/// to this state (such as fence and worker).
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
        let number = |name: &str| Arc::new(Field::new(name, DataType::UInt64, false));
        let numbers = vec![number("__writer"), number("__row")];
        let fields = [numbers, self.schema.fields().to_vec()].concat();
        StateTable {
            schema: Arc::new(Schema::new(fields)),
            key_columns: NUMBER_COLUMNS,
            row_start: NUMBER_COLUMNS,
        }
    }

    /// The rows that came since the last call, for state table `table`.
    ///
    /// # Errors
    /// Arrow kernels' only.
    pub fn delta(&mut self, table: usize) -> Result<StateDelta> {
        let rows = concat_batches(&self.schema, &std::mem::take(&mut self.rows))?;
        let first = self.written;
        self.written += rows.num_rows() as u64;
        let writers: ArrayRef = Arc::new(UInt64Array::from_value(self.writer, rows.num_rows()));
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(first..self.written));
        let schema = self.state_table().schema;
        let deletes = RecordBatch::new_empty(Arc::new(schema.project(&[0, 1])?));
        let columns = [&[writers, numbers], rows.columns()].concat();
        Ok(StateDelta { table, puts: RecordBatch::try_new(schema, columns)?, deletes })
    }

    /// What came is durable.
    pub fn forget(&mut self) {
        self.rows.clear();
    }

    /// The rows' own columns of stored ones.
    pub fn columns_of(stored: &RecordBatch) -> &[ArrayRef] {
        &stored.columns()[NUMBER_COLUMNS..]
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
